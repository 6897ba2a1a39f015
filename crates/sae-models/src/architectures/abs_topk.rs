//! AbsTopK: the k features of largest magnitude of each input, with their sign (Zhu et al. 2025,
//! arXiv:2510.00404).

use std::collections::BTreeMap;

use sae_config::AbsTopKConfig;
use sae_kernels::{Count, Rank};
use tch::Tensor;
use tch_autograd::view;

use crate::init::tied;
use crate::{Base, InitRng, ModelConfig, Products, Result, Sae, SparseCodes, top_k_rows_mask};

/// f = z on its k entries of largest |z|, z = W_enc(x − b_dec) + b_enc.
#[derive(Debug)]
pub struct AbsTopK {
    base: Base,
    k: i64,
}

impl AbsTopK {
    pub(crate) fn new(base: Base, config: &AbsTopKConfig) -> Self {
        Self { base, k: config.k as i64 }
    }

    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        tied(config, rng, 1.0)
    }
}

impl Sae for AbsTopK {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn activate(&self, x: &Tensor) -> (Tensor, Option<Tensor>) {
        let z = self.base.weights.pre_activations(x);
        (&z * top_k_rows_mask(&z.abs(), self.k), None)
    }

    fn activate_sparse(
        &self,
        x: &Tensor,
        products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        let (z, selector) = products.of_encoder(x, &self.base.weights)?;
        let bias = view(&self.base.weights.b_enc)?;
        selector.top_k(z, &bias, Count::Same(self.k as usize), Rank::Magnitude, codes)?;
        Ok(None)
    }
}

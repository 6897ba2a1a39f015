//! TopK: the k largest features of each input (Gao et al. 2024, arXiv:2406.04093).

use sae_config::TopKConfig;
use sae_kernels::{Count, Rank};
use tch::Tensor;
use tch_autograd::view;

use crate::{Base, Products, Result, Sae, SparseCodes, Tensors, top_k_rows_mask};

/// f = z on its k largest entries, z = relu(W_enc(x − b_dec) + b_enc).
#[derive(Debug)]
pub struct TopK {
    base: Base,
    k: i64,
    threshold: Tensor,
}

impl TopK {
    pub(crate) fn new(base: Base, config: &TopKConfig, tensors: &mut Tensors) -> Result<Self> {
        let threshold = tensors.take("threshold", &[])?;
        Ok(Self { base, k: config.k as i64, threshold })
    }
}

impl Sae for TopK {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn activate(&self, x: &Tensor) -> (Tensor, Option<Tensor>) {
        let z = self.base.weights.pre_activations(x).relu();
        (&z * top_k_rows_mask(&z, self.k), None)
    }

    fn activate_sparse(
        &self,
        x: &Tensor,
        products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        let (z, selector) = products.of_encoder(x, &self.base.weights)?;
        let bias = view(&self.base.weights.b_enc)?;
        selector.top_k(z, &bias, Count::Same(self.k as usize), Rank::Value, codes)?;
        Ok(None)
    }

    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("threshold", &self.threshold)]
    }
}

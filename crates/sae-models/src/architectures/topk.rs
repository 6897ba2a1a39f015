//! TopK: the k largest features of each input (Gao et al. 2024, arXiv:2406.04093).

use sae_config::TopKConfig;
use tch::Tensor;

use crate::{Base, Result, Sae, Tensors, top_k_rows_mask};

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

    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("threshold", &self.threshold)]
    }
}

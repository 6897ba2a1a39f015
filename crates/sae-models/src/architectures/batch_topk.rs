//! BatchTopK (Bussmann et al. 2024, arXiv:2412.06410) and Matryoshka BatchTopK (arXiv:2503.17547).
//!
//! In training the k·B largest features of a batch are kept; at inference those above a threshold
//! that training has averaged. Matryoshka differs in its loss alone.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::init::tied;
use crate::select::above;
use crate::{Base, InitRng, ModelConfig, Result, Sae, Tensors};

/// f = z·(z > threshold), z = relu(W_enc(x − b_dec) + b_enc).
#[derive(Debug)]
pub struct BatchTopK {
    base: Base,
    threshold: Tensor,
}

impl BatchTopK {
    pub(crate) fn new(base: Base, tensors: &mut Tensors) -> Result<Self> {
        Ok(Self { base, threshold: tensors.take("threshold", &[])? })
    }

    /// A threshold of −1 means that none has been seen.
    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        let mut map = tied(config, rng, 1.0);
        map.insert("threshold".into(), Tensor::from(-1.0));
        map
    }
}

impl Sae for BatchTopK {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn activate(&self, x: &Tensor) -> (Tensor, Option<Tensor>) {
        let z = self.base.weights.pre_activations(x).relu();
        (above(&z, &self.threshold), None)
    }

    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("threshold", &self.threshold)]
    }
}

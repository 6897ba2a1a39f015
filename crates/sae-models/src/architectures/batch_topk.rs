//! BatchTopK (Bussmann et al. 2024, arXiv:2412.06410) and Matryoshka BatchTopK (arXiv:2503.17547).
//!
//! In training the k·B largest features of a batch are kept; at inference those above a threshold
//! that training has averaged. Matryoshka differs in its loss alone.

use std::collections::BTreeMap;

use tch::Tensor;
use tch_autograd::{read, view};

use crate::init::tied;
use crate::select::above;
use crate::{Base, InitRng, ModelConfig, Products, Result, Sae, SparseCodes, Tensors};

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

    fn activate_sparse(
        &self,
        x: &Tensor,
        products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        // z that is not positive is 0, whatever the threshold.
        let least = (read::number(&self.threshold) as f32).max(0.0);
        let (z, selector) = products.of_encoder(x, &self.base.weights)?;
        selector.filter(z, &view(&self.base.weights.b_enc)?, |_, v| v > least, codes)?;
        Ok(None)
    }

    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("threshold", &self.threshold)]
    }
}

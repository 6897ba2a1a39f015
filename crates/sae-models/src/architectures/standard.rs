//! Standard: ReLU features, sparse by a penalty in training (Bricken et al. 2023).
//!
//! The April update and P-anneal differ from it in training alone.

use std::collections::BTreeMap;

use tch::Tensor;
use tch_autograd::view;

use crate::init::tied;
use crate::{Base, InitRng, ModelConfig, Products, Result, Sae, SparseCodes};

/// f = relu(W_enc(x − b_dec) + b_enc).
#[derive(Debug)]
pub struct Standard {
    base: Base,
}

impl Standard {
    pub(crate) const fn new(base: Base) -> Self {
        Self { base }
    }

    /// Decoder and encoder of norm 0.1, as the April update has it.
    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        tied(config, rng, 0.1)
    }
}

impl Sae for Standard {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn activate(&self, x: &Tensor) -> (Tensor, Option<Tensor>) {
        (self.base.weights.pre_activations(x).relu(), None)
    }

    fn activate_sparse(
        &self,
        x: &Tensor,
        products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        let (z, selector) = products.of_encoder(x, &self.base.weights)?;
        selector.filter(z, &view(&self.base.weights.b_enc)?, |_, v| v > 0.0, codes)?;
        Ok(None)
    }
}

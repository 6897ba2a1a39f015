//! Standard: ReLU features, sparse by a penalty in training (Bricken et al. 2023).
//!
//! The April update and P-anneal differ from it in training alone.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::init::tied;
use crate::{Base, InitRng, ModelConfig, Sae, Selection};

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

    fn selection(&self) -> Selection {
        Selection::Positive
    }
}

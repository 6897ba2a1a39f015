//! Gated: a gate decides which features are active, a magnitude how much
//! (Rajamanoharan et al. 2024, arXiv:2404.16014).

use std::collections::BTreeMap;

use tch::Tensor;

use crate::init::{tied, zeros};
use crate::{Base, InitRng, ModelConfig, Result, Role, Sae, Selection, Tensors};

/// f = 1[π + b_gate > 0]·relu(e^r·π + b_mag), π = W_enc(x − b_dec); b_gate is `encoder.bias`.
#[derive(Debug)]
pub struct Gated {
    base: Base,
}

impl Gated {
    pub(crate) fn new(mut base: Base, tensors: &mut Tensors) -> Result<Self> {
        let shape = [base.config.n_features as i64];
        base.parameters.take_trained(Role::MagnitudeLogScale, &shape, tensors)?;
        base.parameters.take_trained(Role::MagnitudeBias, &shape, tensors)?;
        Ok(Self { base })
    }

    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        let mut map = tied(config, rng, 1.0);
        map.insert("magnitude.log_scale".into(), zeros(&[config.n_features]));
        map.insert("magnitude.bias".into(), zeros(&[config.n_features]));
        map
    }
}

impl Sae for Gated {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn selection(&self) -> Selection {
        Selection::Gate
    }
}

//! JumpReLU: a learned threshold per feature (Rajamanoharan et al. 2024, arXiv:2407.14435).

use std::collections::BTreeMap;

use sae_config::JumpReluConfig;
use tch::Tensor;

use crate::init::tied;
use crate::{Base, InitRng, ModelConfig, Result, Role, Sae, Selection, Tensors};

/// Thresholds at the start.
const INITIAL_THRESHOLD: f64 = 0.001;

/// f = h·(h > θ), h = W_enc x + b_enc, b_dec subtracted from x if configured.
#[derive(Debug)]
pub struct JumpRelu {
    base: Base,
    subtract_b_dec: bool,
}

impl JumpRelu {
    pub(crate) fn new(
        mut base: Base,
        config: &JumpReluConfig,
        tensors: &mut Tensors,
    ) -> Result<Self> {
        let shape = [base.config.n_features as i64];
        base.parameters.take_trained(Role::Threshold, &shape, tensors)?;
        Ok(Self { base, subtract_b_dec: config.subtract_b_dec })
    }

    pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
        let mut map = tied(config, rng, 1.0);
        let thresholds = vec![INITIAL_THRESHOLD; config.n_features];
        map.insert("threshold".into(), Tensor::from_slice(&thresholds));
        map
    }
}

impl Sae for JumpRelu {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn selection(&self) -> Selection {
        Selection::Jump { subtract_b_dec: self.subtract_b_dec }
    }
}

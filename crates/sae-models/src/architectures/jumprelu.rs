//! JumpReLU: a learned threshold per feature (Rajamanoharan et al. 2024, arXiv:2407.14435).

use std::collections::BTreeMap;

use tch::Tensor;

use crate::init::tied;
use crate::{InitRng, ModelConfig, Parameters, Result, Role, Tensors};

/// Thresholds at the start.
const INITIAL_THRESHOLD: f64 = 0.001;

pub(super) fn take(config: &ModelConfig, all: &mut Parameters, from: &mut Tensors) -> Result<()> {
    all.take_trained(Role::Threshold, &[config.n_features as i64], from)
}

pub(super) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
    let mut map = tied(config, rng, 1.0);
    let thresholds = vec![INITIAL_THRESHOLD; config.n_features];
    map.insert(Role::Threshold.name().into(), Tensor::from_slice(&thresholds));
    map
}

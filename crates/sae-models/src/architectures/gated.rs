//! Gated: a gate decides which features are active, a magnitude how much
//! (Rajamanoharan et al. 2024, arXiv:2404.16014).

use std::collections::BTreeMap;

use tch::Tensor;

use crate::init::{tied, zeros};
use crate::{InitRng, ModelConfig, Parameters, Result, Role, Tensors};

const OWN: [Role; 2] = [Role::MagnitudeLogScale, Role::MagnitudeBias];

pub(super) fn take(config: &ModelConfig, all: &mut Parameters, from: &mut Tensors) -> Result<()> {
    let shape = [config.n_features as i64];
    OWN.into_iter().try_for_each(|role| all.take_trained(role, &shape, from))
}

pub(super) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
    let mut map = tied(config, rng, 1.0);
    map.extend(OWN.map(|role| (role.name().into(), zeros(&[config.n_features]))));
    map
}

//! Models of every architecture, small, with weights that are not symmetric.

use sae_config::{ArchitectureConfig, Code, EstimatorNetwork, Normalization, Rounding, SoftCode};
use sae_models::{InitRng, ModelConfig, Normalizer, Sae, init};
use tch::{Device, Kind, Tensor};
use tch_autograd::test_device;

pub(crate) const D_MODEL: usize = 6;
pub(crate) const N_FEATURES: usize = 24;

pub(crate) const NORMALIZATIONS: [Normalization; 5] = [
    Normalization::None,
    Normalization::Scale,
    Normalization::ShiftScale,
    Normalization::UnitNorm,
    Normalization::LayerNorm,
];

pub(crate) fn codes() -> Vec<Code> {
    let soft = |k_estimator| {
        let rounding = Rounding::Nearest;
        Code::Soft(SoftCode { k: 5, k_max: 20.0, k_min: 1.0, alpha: 1e-4, rounding, k_estimator })
    };
    let all = vec![
        Code::TopK { k: 5 },
        Code::AbsTopK { k: 5 },
        Code::BatchTopK { k: 5 },
        soft(EstimatorNetwork::TwoLayers { hidden_units: N_FEATURES }),
        soft(EstimatorNetwork::TwoLayers { hidden_units: 4 }),
        soft(EstimatorNetwork::Shared),
        soft(EstimatorNetwork::LowRank { rank: 3 }),
        Code::JumpRelu { subtract_b_dec: true },
        Code::JumpRelu { subtract_b_dec: false },
        Code::Gated {},
        Code::Standard {},
        Code::MatryoshkaBatchTopK { k: 5, group_sizes: vec![6, 18] },
        Code::StandardApril {},
        Code::PAnneal {},
    ];
    for name in ArchitectureConfig::NAMES {
        assert!(all.iter().any(|code| code.name() == name), "{name}");
    }
    all
}

fn normalizer(normalization: Normalization, kind: Kind, device: Device) -> Normalizer {
    match normalization {
        Normalization::None => Normalizer::None,
        Normalization::Scale => Normalizer::Scale { scale: 3.7 },
        Normalization::ShiftScale => Normalizer::ShiftScale {
            shift: InitRng::new(11).uniform(&[D_MODEL as i64], 2.0).to_kind(kind).to_device(device),
            scale: 2.9,
        },
        Normalization::UnitNorm => Normalizer::UnitNorm,
        Normalization::LayerNorm => Normalizer::LayerNorm,
    }
}

/// A model on the device under test whose every tensor has been moved away from its initial value.
pub(crate) fn model(code: Code, normalization: Normalization, kind: Kind, seed: u64) -> Sae {
    model_on(test_device(), code, normalization, kind, seed)
}

/// As [`model`], on any device.
pub(crate) fn model_on(
    device: Device,
    code: Code,
    normalization: Normalization,
    kind: Kind,
    seed: u64,
) -> Sae {
    let config =
        ModelConfig { d_model: D_MODEL, d_out: None, n_features: N_FEATURES, normalization, code };
    let mut rng = InitRng::new(seed);
    let normalizer = normalizer(normalization, kind, device);
    let sae = init(config, &normalizer, &mut rng, kind, device).unwrap();
    for (_, tensor) in sae.parameters() {
        let noise = rng.uniform(&tensor.size(), 0.3).to_kind(kind).to_device(device);
        let _ = tensor.shallow_clone().g_add_(&noise);
    }
    for (_, tensor) in sae.buffers() {
        let _ = tensor.shallow_clone().fill_(0.2);
    }
    sae
}

/// Rows on the device under test.
pub(crate) fn rows(n: i64, kind: Kind, seed: u64) -> Tensor {
    let rows = InitRng::new(seed).uniform(&[n, D_MODEL as i64], 6.0);
    rows.to_kind(kind).to_device(test_device())
}

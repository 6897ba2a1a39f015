//! Models of every architecture, small, with weights that are not symmetric.

use sae_config::{
    ArchitectureConfig, AuxKConfig, GatedConfig, JumpReluConfig, KEstimator, Normalization, Parity,
    SoftConfig, StandardConfig, TopKConfig,
};
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

pub(crate) fn architectures() -> Vec<ArchitectureConfig> {
    let topk = TopKConfig {
        k: 5,
        k_anneal_steps: 0,
        threshold_start_step: None,
        auxk: AuxKConfig::default(),
    };
    let soft = |k_estimator| {
        let mut config: SoftConfig = toml::from_str("k = 5").unwrap();
        config.k_estimator = k_estimator;
        ArchitectureConfig::Soft(config)
    };
    let jumprelu = |subtract| {
        let text = format!("target_l0 = 5.0\nsubtract_b_dec = {subtract}");
        ArchitectureConfig::JumpRelu(toml::from_str::<JumpReluConfig>(&text).unwrap())
    };
    let (l1_penalty, sparsity_warmup_steps) = (0.1, 0);
    let groups = "k = 5\ngroup_fractions = [0.25, 0.75]";
    let april = "l1_penalty = 0.1";
    let p_anneal = "initial_sparsity_penalty = 0.1\nanneal_start = 3";
    let all = vec![
        ArchitectureConfig::TopK(topk.clone()),
        ArchitectureConfig::AbsTopK(toml::from_str("k = 5").unwrap()),
        ArchitectureConfig::BatchTopK(topk),
        soft(KEstimator::Mlp),
        soft(KEstimator::Narrow { width: Some(4) }),
        soft(KEstimator::Shared),
        soft(KEstimator::LowRank { rank: 3 }),
        jumprelu(true),
        jumprelu(false),
        ArchitectureConfig::Gated(GatedConfig { l1_penalty, sparsity_warmup_steps }),
        ArchitectureConfig::Standard(StandardConfig {
            l1_penalty,
            sparsity_warmup_steps,
            resample_steps: None,
        }),
        ArchitectureConfig::MatryoshkaBatchTopK(toml::from_str(groups).unwrap()),
        ArchitectureConfig::StandardApril(toml::from_str(april).unwrap()),
        ArchitectureConfig::PAnneal(toml::from_str(p_anneal).unwrap()),
    ];
    for name in ArchitectureConfig::NAMES {
        assert!(all.iter().any(|architecture| architecture.name() == name), "{name}");
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
pub(crate) fn model(
    architecture: ArchitectureConfig,
    normalization: Normalization,
    kind: Kind,
    seed: u64,
) -> Box<dyn Sae> {
    model_on(test_device(), architecture, normalization, kind, seed)
}

/// As [`model`], on any device.
pub(crate) fn model_on(
    device: Device,
    architecture: ArchitectureConfig,
    normalization: Normalization,
    kind: Kind,
    seed: u64,
) -> Box<dyn Sae> {
    let config = ModelConfig {
        d_model: D_MODEL,
        d_out: None,
        n_features: N_FEATURES,
        normalization,
        parity: Parity::None,
        architecture,
    };
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

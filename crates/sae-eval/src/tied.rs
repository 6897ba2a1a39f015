//! An SAE for unit tests, whose encoder is its decoder's transpose.

use std::collections::BTreeMap;

use sae_config::{Code, Normalization};
use sae_models::{ModelConfig, Sae, Tensors, build};
use tch::{Device, Kind, Tensor};

/// Every normalisation.
pub(crate) const NORMALIZATIONS: [Normalization; 5] = [
    Normalization::None,
    Normalization::Scale,
    Normalization::ShiftScale,
    Normalization::UnitNorm,
    Normalization::LayerNorm,
];

/// relu(x Wᵀ) W + b of normalised rows, with the same b everywhere.
///
/// # Shapes
/// W `[n_features, d_model]`.
pub(crate) fn tied(w: &Tensor, normalization: Normalization, bias: f64) -> Sae {
    let [f, d] = [w.size()[0], w.size()[1]];
    let zeros = |n: i64| Tensor::zeros([n], (Kind::Float, Device::Cpu));
    let mut tensors = BTreeMap::from([
        ("encoder.weight".to_owned(), w.to_kind(Kind::Float).copy()),
        ("encoder.bias".to_owned(), zeros(f)),
        ("decoder.weight".to_owned(), w.to_kind(Kind::Float).copy()),
        ("decoder.bias".to_owned(), zeros(d) + bias),
    ]);
    if [Normalization::Scale, Normalization::ShiftScale].contains(&normalization) {
        tensors.insert("normalization.scale".to_owned(), Tensor::from(3.0));
    }
    if normalization == Normalization::ShiftScale {
        tensors.insert("normalization.shift".to_owned(), zeros(d) + 0.5);
    }
    let config = ModelConfig {
        d_model: d as usize,
        d_out: None,
        n_features: f as usize,
        normalization,
        code: Code::Standard {},
    };
    build(config, Tensors::new(tensors, Kind::Float, Device::Cpu)).unwrap()
}

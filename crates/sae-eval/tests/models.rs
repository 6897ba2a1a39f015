//! Small SAEs with known weights, on the device under test.

use std::collections::BTreeMap;

use sae_config::{Code, EstimatorNetwork, Normalization, Rounding, SoftCode};
use sae_models::{InitRng, ModelConfig, Normalizer, Sae, Tensors, build, init};
use tch::{Kind, Tensor};
use tch_autograd::test_device;

fn config(d_model: usize, n_features: usize, code: Code) -> ModelConfig {
    ModelConfig { d_model, d_out: None, n_features, normalization: Normalization::None, code }
}

/// relu(x) − relu(−x) = x, times `scale`, plus `bias` in every dimension.
pub(crate) fn linear(d_model: usize, scale: f64, bias: f64) -> Sae {
    let d = d_model as i64;
    let options = (Kind::Float, test_device());
    let identity = Tensor::eye(d, options);
    let both = Tensor::cat(&[&identity, &-&identity], 0);
    let tensors = BTreeMap::from([
        ("encoder.weight".to_owned(), both.copy()),
        // b_dec is subtracted before encoding; the features of x shall not depend on it.
        ("encoder.bias".to_owned(), both.sum_dim_intlist(1, false, Kind::Float) * bias),
        ("decoder.weight".to_owned(), both * scale),
        ("decoder.bias".to_owned(), Tensor::full([d], bias, options)),
    ]);
    let tensors = Tensors::new(tensors, Kind::Float, test_device());
    build(config(d_model, 2 * d_model, Code::Standard {}), tensors).unwrap()
}

/// A SoftSAE with random weights, moved so that k̂ differs from row to row.
pub(crate) fn soft(d_model: usize, n_features: usize, seed: u64) -> Sae {
    let code = SoftCode {
        k: 5,
        k_max: 20.0,
        k_min: 1.0,
        alpha: 1e-4,
        rounding: Rounding::Nearest,
        k_estimator: EstimatorNetwork::TwoLayers { hidden_units: n_features },
    };
    let config = config(d_model, n_features, Code::Soft(code));
    let mut rng = InitRng::new(seed);
    let sae = init(config, &Normalizer::None, &mut rng, Kind::Float, test_device()).unwrap();
    for (_, tensor) in sae.parameters() {
        let _ = tensor
            .shallow_clone()
            .g_add_(&rng.uniform(&tensor.size(), 0.3).to_device(test_device()));
    }
    sae
}

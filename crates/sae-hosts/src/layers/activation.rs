//! Activation functions, by the names that `config.json` gives them.

use tch::Tensor;

use crate::Result;
use crate::config::HostConfig;

/// An activation function of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x·Φ(x) (Hendrycks and Gimpel 2016).
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    /// x·σ(1.702·x).
    QuickGelu,
    /// x·σ(x).
    Silu,
    /// max(x, 0).
    Relu,
}

/// The names of transformers; several stand for the same function computed in another way.
const NAMES: [(&str, Activation); 11] = [
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("quick_gelu", Activation::QuickGelu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("relu", Activation::Relu),
];

impl Activation {
    /// The function that `key` names, or `default` if it is absent.
    pub(crate) fn read(config: &HostConfig, key: &str, default: Self) -> Result<Self> {
        if !config.has(key) {
            return Ok(default);
        }
        let wanted = config.string(key)?;
        match NAMES.iter().find(|(name, _)| *name == wanted) {
            Some((_, function)) => Ok(*function),
            None => {
                let known: Vec<_> = NAMES.iter().map(|(name, _)| format!("`{name}`")).collect();
                let expected = format!("one of {}", known.join(", "));
                Err(config.wrong(key, expected, format!("`{wanted}`")))
            }
        }
    }

    pub(crate) fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::Silu => x.silu(),
            Self::Relu => x.relu(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The definitions, in f64.
    fn definition(name: &str, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let tanh = || {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        };
        match name {
            "gelu" | "gelu_python" => {
                // Φ by Simpson's rule.
                let n = 2_000;
                let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let sum: f64 = (0..=n)
                    .map(|i| {
                        let weight = if i == 0 || i == n { 1.0 } else { [2.0, 4.0][i % 2] };
                        weight * density(x * i as f64 / n as f64)
                    })
                    .sum();
                x * (0.5 + sum * x / n as f64 / 3.0)
            }
            "quick_gelu" => x * sigmoid(1.702 * x),
            "silu" | "swish" => x * sigmoid(x),
            "relu" => x.max(0.0),
            _ => tanh(),
        }
    }

    #[test]
    fn every_name_is_its_function_and_others_are_refused() {
        let config = |name: &str| {
            let values = serde_json::json!({ "hidden_act": name });
            HostConfig::new(Path::new("config.json"), values.as_object().unwrap().clone())
        };
        let xs = [-3.0, -1.0, -0.1, 0.0, 0.3, 2.0, 5.0];
        for (name, _) in NAMES {
            let function = Activation::read(&config(name), "hidden_act", Activation::Gelu).unwrap();
            let got = Vec::<f64>::try_from(function.forward(&Tensor::from_slice(&xs))).unwrap();
            for (x, got) in xs.into_iter().zip(got) {
                assert!((got - definition(name, x)).abs() < 1e-9, "{name}({x}) = {got}");
            }
        }
        let error = Activation::read(&config("gelu_10"), "hidden_act", Activation::Gelu);
        assert!(error.unwrap_err().to_string().ends_with("got `gelu_10`"));
    }
}

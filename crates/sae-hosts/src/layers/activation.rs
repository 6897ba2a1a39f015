//! Activation functions, by the names that `config.json` gives them.

use tch::Tensor;

use super::cpu;
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

    /// The function of each element.
    pub(crate) fn forward(self, mut x: Tensor) -> Tensor {
        let in_place = match self {
            Self::GeluTanh => cpu::sigmoid_unit(&mut x, gelu_argument),
            Self::QuickGelu => cpu::sigmoid_unit(&mut x, |x| 1.702 * x),
            Self::Silu => cpu::sigmoid_unit(&mut x, |x| x),
            Self::Gelu => cpu::normal_unit(&mut x),
            Self::Relu => None,
        };
        if in_place.is_some() { x } else { self.of(&x) }
    }

    /// The function of the first half of each row, times the other half.
    ///
    /// # Shapes
    /// `[…, 2·size]` to `[…, size]`.
    pub(crate) fn gated(self, mut gate_up: Tensor) -> Tensor {
        let in_place = match self {
            Self::GeluTanh => cpu::gated_unit(&mut gate_up, gelu_argument),
            Self::QuickGelu => cpu::gated_unit(&mut gate_up, |x| 1.702 * x),
            Self::Silu => cpu::gated_unit(&mut gate_up, |x| x),
            Self::Gelu | Self::Relu => None,
        };
        let size = gate_up.size().last().map_or(0, |size| size / 2);
        let gate = gate_up.narrow(-1, 0, size);
        if in_place.is_some() { gate } else { self.of(&gate) * gate_up.narrow(-1, size, size) }
    }

    fn of(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::Silu => x.silu(),
            Self::Relu => x.relu(),
        }
    }
}

/// s of GELU's approximation x·σ(s(x)): (1 + tanh(u)) / 2 is σ(2u).
#[inline(always)]
fn gelu_argument(x: f32) -> f32 {
    const SCALE: f32 = 1.595_769;
    SCALE * (x + 0.044_715 * x * x * x)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::Kind;

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
        let xs = [-200.0, -3.0, -1.0, -0.1, 0.0, 0.3, 2.0, 5.0, 90.0];
        for (name, _) in NAMES {
            let function = Activation::read(&config(name), "hidden_act", Activation::Gelu).unwrap();
            for (kind, tolerance) in [(Kind::Double, 1e-9), (Kind::Float, 1e-6)] {
                let x = || Tensor::from_slice(&xs).to_kind(kind);
                let got = Vec::<f64>::try_from(function.forward(x())).unwrap();
                let gated = function.gated(Tensor::cat(&[x(), x() * 0.5], 0));
                let gated = Vec::<f64>::try_from(gated).unwrap();
                for (x, (got, gated)) in xs.into_iter().zip(got.into_iter().zip(gated)) {
                    let expected = definition(name, x);
                    let close = |got: f64, expected: f64| {
                        (got - expected).abs() <= tolerance * expected.abs().max(1.0)
                    };
                    assert!(close(got, expected), "{name}({x}) = {got} in {kind:?}");
                    assert!(close(gated, expected * x / 2.0), "{name}({x}) gated in {kind:?}");
                }
            }
        }
        let error = Activation::read(&config("gelu_10"), "hidden_act", Activation::Gelu);
        assert!(error.unwrap_err().to_string().ends_with("got `gelu_10`"));
    }
}

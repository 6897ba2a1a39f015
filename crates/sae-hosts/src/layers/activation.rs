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
}

impl Activation {
    pub(crate) fn read(config: &HostConfig, key: &str) -> Result<Self> {
        match config.string(key)? {
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "quick_gelu" => Ok(Self::QuickGelu),
            other => {
                let expected = "`gelu`, `gelu_new`, `gelu_pytorch_tanh` or `quick_gelu`";
                Err(config.wrong(key, expected, format!("`{other}`")))
            }
        }
    }

    pub(crate) fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
        }
    }
}

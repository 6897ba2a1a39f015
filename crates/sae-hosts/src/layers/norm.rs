//! Normalisation over the last dimension.

use tch::{Kind, Tensor};

use super::cpu;
use crate::Result;
use crate::weights::Weights;

/// w · x / √(mean(x²) + ε), computed in f32 (Zhang and Sennrich 2019).
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn load(weights: &Weights, name: &str, size: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.take(&format!("{name}.weight"), &[size])?, eps })
    }

    /// The same norm with w replaced by a function of it.
    pub(crate) fn map_weight(self, map: impl FnOnce(&Tensor) -> Tensor) -> Self {
        Self { weight: map(&self.weight), eps: self.eps }
    }

    /// # Shapes
    /// `[…, size]` to the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        if let Some(out) = cpu::rms_norm(x, &self.weight, self.eps) {
            return out;
        }
        let size = self.weight.size()[0];
        let exact = x.to_kind(Kind::Float);
        let norm = exact.norm_scalaropt_dim(2.0, [-1], true);
        let scale = (norm.square() / size as f64 + self.eps).rsqrt();
        (exact * scale).to_kind(x.kind()) * &self.weight
    }
}

/// w · (x − mean) / √(variance + ε) + b (Ba, Kiros and Hinton 2016).
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(weights: &Weights, name: &str, size: i64, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: weights.take(&format!("{name}.weight"), &[size])?,
            bias: weights.take(&format!("{name}.bias"), &[size])?,
            eps,
        })
    }

    /// # Shapes
    /// `[…, size]` to the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let Self { weight, bias, eps } = self;
        cpu::layer_norm(x, weight, bias, *eps)
            .unwrap_or_else(|| x.layer_norm(weight.size(), Some(weight), Some(bias), *eps, true))
    }
}

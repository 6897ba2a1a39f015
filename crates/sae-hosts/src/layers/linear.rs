//! Affine maps.

use tch::Tensor;

use crate::Result;
use crate::weights::Weights;

/// y = x Wᵀ + b, with W of `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// `{name}.weight` and, if `bias`, `{name}.bias`.
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        inputs: i64,
        outputs: i64,
        bias: bool,
    ) -> Result<Self> {
        let weight = weights.take(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = bias.then(|| weights.take(&format!("{name}.bias"), &[outputs])).transpose()?;
        Ok(Self { weight, bias })
    }

    /// The same from a file that holds Wᵀ, as those of GPT-2 do.
    pub(crate) fn load_transposed(
        weights: &Weights,
        name: &str,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self> {
        let weight = weights.take(&format!("{name}.weight"), &[inputs, outputs])?;
        let bias = weights.take(&format!("{name}.bias"), &[outputs])?;
        Ok(Self { weight: weight.transpose(0, 1).contiguous(), bias: Some(bias) })
    }

    /// Each part of the outputs as `rows` selects it from W and b.
    pub(crate) fn select(&self, rows: impl Fn(&Tensor) -> Tensor) -> Self {
        Self { weight: rows(&self.weight), bias: self.bias.as_ref().map(rows) }
    }

    /// One map with the outputs of all `parts` side by side: one product instead of several.
    pub(crate) fn stack(parts: &[&Self]) -> Self {
        let weights: Vec<_> = parts.iter().map(|part| &part.weight).collect();
        let biases: Vec<_> = parts.iter().filter_map(|part| part.bias.as_ref()).collect();
        Self {
            weight: Tensor::cat(&weights, 0),
            bias: (!biases.is_empty()).then(|| Tensor::cat(&biases, 0)),
        }
    }

    /// # Shapes
    /// `[…, inputs]` to `[…, outputs]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

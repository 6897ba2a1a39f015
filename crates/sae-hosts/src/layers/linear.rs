//! Affine maps.

use tch::Tensor;

use super::cpu;
use crate::Result;
use crate::weights::Weights;

/// y = x Wᵀ + b, with W of `[outputs, inputs]`.
///
/// On the CPU in f32 it is a product of the `gemm` crate, which reads W by columns.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// The map of W and b, whose memory is laid out as the product reads it.
    pub(crate) fn new(weight: &Tensor, bias: Option<Tensor>) -> Self {
        let weight = match cpu::is_ours(weight) {
            true => weight.tr().contiguous().tr(),
            false => weight.contiguous(),
        };
        Self { weight, bias }
    }

    /// The map of a matrix that is used elsewhere too and keeps its layout.
    pub(crate) fn shared(weight: &Tensor) -> Self {
        Self { weight: weight.shallow_clone(), bias: None }
    }

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
        Ok(Self::new(&weight, bias))
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
        Ok(Self::new(&weight.tr(), Some(bias)))
    }

    /// Each part of the outputs as `rows` selects it from W and b.
    pub(crate) fn select(&self, rows: impl Fn(&Tensor) -> Tensor) -> Self {
        Self::new(&rows(&self.weight), self.bias.as_ref().map(rows))
    }

    /// One map with the outputs of all `parts` side by side: one product instead of several.
    pub(crate) fn stack(parts: &[&Self]) -> Self {
        let weights: Vec<_> = parts.iter().map(|part| part.weight.tr()).collect();
        let biases: Vec<_> = parts.iter().filter_map(|part| part.bias.as_ref()).collect();
        let bias = (!biases.is_empty()).then(|| Tensor::cat(&biases, 0));
        Self::new(&Tensor::cat(&weights, 1).tr(), bias)
    }

    /// # Shapes
    /// `[…, inputs]` to `[…, outputs]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let bias = self.bias.as_ref();
        cpu::affine(x, &self.weight, bias).unwrap_or_else(|| x.linear(&self.weight, bias))
    }
}

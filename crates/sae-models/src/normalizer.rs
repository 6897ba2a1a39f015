//! What is done to activations before encoding, and undone after decoding.

use sae_config::Normalization;
use tch::{Kind, Tensor};

use crate::{Error, ModelConfig, Result, Tensors};

/// Added to a row's standard deviation before dividing by it, not when multiplying by it again, as
/// SAELens does.
const LAYER_NORM_EPSILON: f64 = 1e-5;

/// A normalisation with its constants.
#[derive(Debug)]
#[non_exhaustive]
pub enum Normalizer {
    /// Activations as they are.
    None,
    /// x/scale.
    Scale {
        /// √E‖x‖².
        scale: f64,
    },
    /// (x − shift)/scale.
    ShiftScale {
        /// The mean, `[d_model]`.
        shift: Tensor,
        /// √E‖x − mean‖².
        scale: f64,
    },
    /// Each row divided by its own norm.
    UnitNorm,
    /// Each row centred and divided by its own standard deviation (N − 1).
    LayerNorm,
}

/// Statistics of single rows that decoding needs: x = (normalised·scale + shift)·unit.
#[derive(Debug)]
pub struct RowScale {
    /// `[batch, 1]`, where rows are centred.
    pub shift: Option<Tensor>,
    /// `[batch, 1]`.
    pub scale: Tensor,
    /// `[batch, 1]`, the powers of two that statistics are taken in, so that no square overflows.
    pub unit: Tensor,
}

impl Normalizer {
    /// Which normalisation it is.
    #[must_use]
    pub const fn normalization(&self) -> Normalization {
        match self {
            Self::None => Normalization::None,
            Self::Scale { .. } => Normalization::Scale,
            Self::ShiftScale { .. } => Normalization::ShiftScale,
            Self::UnitNorm => Normalization::UnitNorm,
            Self::LayerNorm => Normalization::LayerNorm,
        }
    }

    /// Its name in configuration files.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Scale { .. } => "scale",
            Self::ShiftScale { .. } => "shift_scale",
            Self::UnitNorm => "unit_norm",
            Self::LayerNorm => "layer_norm",
        }
    }

    /// Normalised rows, and the statistics to undo it where they differ by row.
    ///
    /// # Shapes
    /// x `[batch, d_model]`.
    pub fn normalize(&self, x: &Tensor) -> (Tensor, Option<RowScale>) {
        match self {
            Self::None => (x.shallow_clone(), None),
            Self::Scale { scale } => (x / *scale, None),
            Self::ShiftScale { shift, scale } => ((x - shift) / *scale, None),
            Self::UnitNorm => {
                let unit = unit(x);
                let x = x / &unit;
                let scale = x.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
                // At least 1, but in rows of zeros, which stay zeros.
                let normal = x / scale.clamp_min(1.0);
                (normal, Some(RowScale { shift: None, scale, unit }))
            }
            Self::LayerNorm => {
                let unit = unit(x);
                let x = x / &unit;
                let shift = x.mean_dim([1i64].as_slice(), true, None);
                let centred = x - &shift;
                let scale = centred.std_dim([1i64].as_slice(), true, true);
                let epsilon = unit.full_like(LAYER_NORM_EPSILON) / &unit;
                let normal = centred / (&scale + epsilon);
                (normal, Some(RowScale { shift: Some(shift), scale, unit }))
            }
        }
    }

    /// Reconstructions in the scale of the raw activations.
    ///
    /// # Errors
    /// [`Error::MissingRows`] where the normalisation differs by row and `rows` is absent.
    pub fn denormalize(&self, x_hat: &Tensor, rows: Option<&RowScale>) -> Result<Tensor> {
        match self {
            Self::None => Ok(x_hat.shallow_clone()),
            Self::Scale { scale } => Ok(x_hat * *scale),
            Self::ShiftScale { shift, scale } => Ok(x_hat * *scale + shift),
            Self::UnitNorm | Self::LayerNorm => {
                let rows = rows.ok_or(Error::MissingRows { normalization: self.name() })?;
                let scaled = x_hat * &rows.scale;
                Ok(rows.shift.as_ref().map_or_else(|| scaled.shallow_clone(), |s| &scaled + s)
                    * &rows.unit)
            }
        }
    }

    /// Takes the constants out of `tensors`.
    pub(crate) fn take(config: &ModelConfig, tensors: &mut Tensors) -> Result<Self> {
        Ok(match config.normalization {
            Normalization::None => Self::None,
            Normalization::Scale => Self::Scale { scale: tensors.take_scale()? },
            Normalization::ShiftScale => Self::ShiftScale {
                shift: tensors.take("normalization.shift", &[config.d_model as i64])?,
                scale: tensors.take_scale()?,
            },
            Normalization::UnitNorm => Self::UnitNorm,
            Normalization::LayerNorm => Self::LayerNorm,
        })
    }

    /// The constants, by the names under which they are saved.
    pub(crate) fn tensors(&self) -> Vec<(&'static str, Tensor)> {
        let scalar = |scale: f64| Tensor::from(scale);
        match self {
            Self::Scale { scale } => vec![("normalization.scale", scalar(*scale))],
            Self::ShiftScale { shift, scale } => vec![
                ("normalization.shift", shift.shallow_clone()),
                ("normalization.scale", scalar(*scale)),
            ],
            Self::None | Self::UnitNorm | Self::LayerNorm => vec![],
        }
    }
}

/// The power of two of each row's largest magnitude, 1 for rows of zeros; dividing by it is exact.
fn unit(x: &Tensor) -> Tensor {
    let largest = x.norm_scalaropt_dim(f64::INFINITY, [1i64].as_slice(), true);
    let wide = largest.to_kind(Kind::Double);
    let (mantissa, _) = wide.frexp();
    (&wide / (mantissa * 2.0)).masked_fill(&largest.eq(0.0), 1.0).to_kind(x.kind())
}

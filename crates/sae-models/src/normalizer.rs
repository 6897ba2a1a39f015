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

    /// Takes the constants of what is encoded out of `tensors`, and those of what is rebuilt where
    /// that is another.
    ///
    /// # Errors
    /// A constant that is absent or wrong, by name; a transcoder whose target would have to be known
    /// to be rebuilt.
    pub(crate) fn take_all(
        config: &ModelConfig,
        tensors: &mut Tensors,
    ) -> Result<(Self, Option<Self>)> {
        let take = |d: usize, names: &Names, tensors: &mut Tensors| {
            Ok::<_, Error>(match config.normalization {
                Normalization::None => Self::None,
                Normalization::Scale => Self::Scale { scale: tensors.take_scale(names.scale)? },
                Normalization::ShiftScale => Self::ShiftScale {
                    shift: tensors.take(names.shift, &[d as i64])?,
                    scale: tensors.take_scale(names.scale)?,
                },
                Normalization::UnitNorm => Self::UnitNorm,
                Normalization::LayerNorm => Self::LayerNorm,
            })
        };
        let of_input = take(config.d_model, &INPUT, tensors)?;
        let Some(d_out) = config.d_out else { return Ok((of_input, None)) };
        if let Self::UnitNorm | Self::LayerNorm = of_input {
            let expected = "none, scale or shift_scale of a transcoder: the norms of target rows \
                            are not known from the input";
            let name = of_input.name();
            return Err(sae_config::Error::value("normalization", expected, name).into());
        }
        Ok((of_input, Some(take(d_out, &TARGET, tensors)?)))
    }

    /// The constants, by the names under which those of a port are saved.
    fn tensors(&self, names: &Names) -> Vec<(&'static str, Tensor)> {
        let scalar = |scale: f64| Tensor::from(scale);
        match self {
            Self::Scale { scale } => vec![(names.scale, scalar(*scale))],
            Self::ShiftScale { shift, scale } => {
                vec![(names.shift, shift.shallow_clone()), (names.scale, scalar(*scale))]
            }
            Self::None | Self::UnitNorm | Self::LayerNorm => vec![],
        }
    }
}

/// Names of the constants of a port.
struct Names {
    shift: &'static str,
    scale: &'static str,
}

const INPUT: Names = Names { shift: "normalization.shift", scale: "normalization.scale" };
const TARGET: Names =
    Names { shift: "target.normalization.shift", scale: "target.normalization.scale" };

/// The constants of the input and of the target where that is another, by the names under which they
/// are saved.
pub(crate) fn constants(
    input: &Normalizer,
    target: Option<&Normalizer>,
) -> Vec<(&'static str, Tensor)> {
    let of_target = target.map(|target| target.tensors(&TARGET));
    input.tensors(&INPUT).into_iter().chain(of_target.into_iter().flatten()).collect()
}

/// The kind in which a tensor of a model of this `kind` is kept: scales in f64.
pub(crate) fn kind_of(name: &str, kind: Kind) -> Kind {
    if name == INPUT.scale || name == TARGET.scale { Kind::Double } else { kind }
}

/// The power of two of each row's largest magnitude, 1 for rows of zeros; dividing by it is exact.
fn unit(x: &Tensor) -> Tensor {
    let largest = x.norm_scalaropt_dim(f64::INFINITY, [1i64].as_slice(), true);
    let wide = largest.to_kind(Kind::Double);
    let (mantissa, _) = wide.frexp();
    (&wide / (mantissa * 2.0)).masked_fill(&largest.eq(0.0), 1.0).to_kind(x.kind())
}

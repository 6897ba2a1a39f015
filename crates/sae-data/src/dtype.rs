//! Element types of activations on disk, and their conversion to and from f32.

use std::fmt;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::int8;

#[cfg(target_endian = "big")]
compile_error!("activation files are little-endian and are read without swapping bytes");

/// The element type of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Integers from −127 to 127 times a scale for each row; native stores only.
    Int8,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// IEEE single precision.
    #[default]
    F32,
    /// IEEE double precision; `.npy` and plain safetensors only, rounded to f32 when read.
    F64,
}

impl Dtype {
    /// All element types.
    pub const ALL: [Self; 5] = [Self::Int8, Self::F16, Self::BF16, Self::F32, Self::F64];

    /// Bytes an element, without the scale of its row.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Int8 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The narrowest type that holds all values of both.
    pub(crate) fn common(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::F64, _) | (_, Self::F64) => Self::F64,
            _ => Self::F32,
        }
    }

    /// Converts little-endian `bytes` of this type to f32, int8 without the scale of the row; the
    /// lengths must match.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        debug_assert_eq!(bytes.len(), out.len() * self.size());
        match self {
            Self::Int8 => decode_each(bytes, out, |[q]| f32::from(q.cast_signed())),
            Self::F16 => match bytemuck::try_cast_slice::<u8, f16>(bytes) {
                Ok(values) => values.convert_to_f32_slice(out),
                Err(_) => decode_each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            },
            Self::BF16 => {
                decode_each(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))
            }
            Self::F32 => bytemuck::cast_slice_mut(out).copy_from_slice(bytes),
            Self::F64 => decode_each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        }
    }

    /// Appends rows of `d_model` values in this type, little-endian, rounded to nearest, to `bytes`,
    /// and the scales of rows of int8 to `scales`.
    pub(crate) fn encode(
        self,
        values: &[f32],
        d_model: usize,
        bytes: &mut Vec<u8>,
        scales: &mut Vec<f32>,
    ) {
        match self {
            Self::Int8 => int8::encode(values, d_model, bytes, scales),
            Self::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                bytes.extend_from_slice(bytemuck::cast_slice(&halves));
            }
            Self::BF16 => {
                bytes.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()));
            }
            Self::F32 => bytes.extend_from_slice(bytemuck::cast_slice(values)),
            Self::F64 => bytes.extend(values.iter().flat_map(|&v| f64::from(v).to_le_bytes())),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

fn decode_each<const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    mut convert: impl FnMut([u8; N]) -> f32,
) {
    for (value, b) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = convert(*b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_comes_back_rounded_to_nearest(x in -6e4_f32..6e4) {
            for (dtype, unit) in [
                (Dtype::F16, 2f32.powi(-11)),
                (Dtype::BF16, 2f32.powi(-8)),
                (Dtype::F32, 0.0),
                (Dtype::F64, 0.0),
            ] {
                let mut bytes = vec![0];
                dtype.encode(&[x], 1, &mut bytes, &mut Vec::new());
                prop_assert_eq!(bytes.len(), 1 + dtype.size());
                let mut back = [0.0];
                dtype.decode(&bytes[1..], &mut back);
                let least = if dtype == Dtype::F16 { 2f32.powi(-25) } else { 0.0 };
                prop_assert!((back[0] - x).abs() <= (x.abs() * unit).max(least));
            }
        }
    }

    #[test]
    fn non_finite_values_stay_so() {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| *dtype != Dtype::Int8) {
            let (mut bytes, values) = (Vec::new(), [f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
            dtype.encode(&values, 3, &mut bytes, &mut Vec::new());
            let mut back = [0.0; 3];
            dtype.decode(&bytes, &mut back);
            assert!(back[0].is_nan() && back[1] == f32::INFINITY && back[2] == f32::NEG_INFINITY);
        }
    }
}

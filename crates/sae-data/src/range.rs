//! Values that an element type cannot hold: they are refused by row, never written as infinity.

use std::path::Path;

use crate::{Dtype, Error, Result, int8};

impl Dtype {
    /// Checks that rows about to be written hold only finite values, and none that this type would
    /// make infinite. Values are rounded to nearest, small ones to zero, but a row that would become
    /// all zeros without being so, or that is too small for a scale of int8, is refused.
    ///
    /// `path` and `first_row` say where the rows go.
    pub(crate) fn check_rows(
        self,
        rows: &[f32],
        d_model: usize,
        path: &Path,
        first_row: u64,
    ) -> Result<()> {
        let (limit, vanishing) = (self.overflow(), self.vanishing());
        let holds = |value: &f32| value.abs() < limit;
        for (row, values) in (first_row..).zip(rows.chunks(d_model)) {
            let range = |column: usize, expected| {
                let (path, got) = (path.to_owned(), f64::from(values[column]));
                Err(Error::Range { path, row, column, expected, got })
            };
            if !values.iter().fold(true, |all, value| all & holds(value)) {
                let column = values.iter().position(|value| !holds(value)).unwrap_or_default();
                let got = values[column];
                if !got.is_finite() {
                    return Err(Error::NonFinite { path: path.to_owned(), row, column, got });
                }
                return range(column, format!("a value that {self} can hold"));
            }
            if values.iter().all(|v| v.abs() <= vanishing)
                && let Some(column) = values.iter().position(|&v| v != 0.0)
            {
                return range(column, self.vanished());
            }
        }
        Ok(())
    }

    /// What a row that is too small should have been.
    fn vanished(self) -> String {
        match self {
            Self::Int8 => format!("a row of zeros or up to {:e} at least", int8::SMALLEST),
            _ => format!("a row that {self} does not round to zeros"),
        }
    }

    /// The smallest f32 that is rounded to infinity.
    const fn overflow(self) -> f32 {
        match self {
            Self::Int8 => int8::LARGEST.next_up(),
            Self::F16 => 65_520.0,
            Self::BF16 => f32::from_bits(0x7f7f_8000),
            Self::F32 | Self::F64 => f32::INFINITY,
        }
    }

    /// The largest f32 that is rounded to zero, or that has no scale as the largest of its row.
    const fn vanishing(self) -> f32 {
        match self {
            Self::Int8 => int8::SMALLEST.next_down(),
            Self::F16 => f32::from_bits(0x3300_0000),
            Self::BF16 => f32::from_bits(0x8000),
            Self::F32 | Self::F64 => 0.0,
        }
    }
}

/// Checks that no row of f64, decoded to `rows` from `bytes`, became all zeros without being so.
pub(crate) fn check_f64(
    bytes: &[u8],
    rows: &[f32],
    d_model: usize,
    path: &Path,
    first_row: u64,
) -> Result<()> {
    let sources = bytes.as_chunks::<8>().0.chunks(d_model);
    for (row, (sources, values)) in (first_row..).zip(sources.zip(rows.chunks(d_model))) {
        if values.iter().all(|&value| value == 0.0)
            && let Some(column) = sources.iter().position(|b| f64::from_le_bytes(*b) != 0.0)
        {
            let expected = "a row that f32 does not round to zeros".to_owned();
            let (path, got) = (path.to_owned(), f64::from_le_bytes(sources[column]));
            return Err(Error::Range { path, row, column, expected, got });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_refused_is_what_rounding_loses(bits: u32) {
            let value = f32::from_bits(bits);
            for dtype in Dtype::ALL {
                let rounded = match dtype {
                    Dtype::F16 => f16::from_f32(value).to_f32(),
                    Dtype::BF16 => bf16::from_f32(value).to_f32(),
                    Dtype::F32 | Dtype::F64 => value,
                    Dtype::Int8 if value.abs() > int8::LARGEST => f32::INFINITY.copysign(value),
                    Dtype::Int8 if value.abs() < int8::SMALLEST => 0.0,
                    Dtype::Int8 => value,
                };
                let lost = !rounded.is_finite() || (rounded == 0.0 && value != 0.0);
                let checked = dtype.check_rows(&[value], 1, Path::new("x"), 0);
                prop_assert_eq!(checked.is_err(), lost, "{} {:e}", dtype, value);
            }
        }
    }

    #[test]
    fn the_edges_are_those_of_the_types() {
        for (dtype, largest, smallest) in [
            (Dtype::Int8, int8::LARGEST, int8::SMALLEST),
            (Dtype::F16, 65_504.0, 2f32.powi(-24)),
            (Dtype::BF16, f32::from_bits(0x7f7f_0000), f32::from_bits(0x1_0000)),
            (Dtype::F32, f32::MAX, f32::from_bits(1)),
            (Dtype::F64, f32::MAX, f32::from_bits(1)),
        ] {
            let check = |value| dtype.check_rows(&[0.0, value], 2, Path::new("x"), 5);
            for value in [largest, smallest, 0.0] {
                check(value).unwrap();
                check(-value).unwrap();
            }
            let (over, under) = (dtype.overflow(), dtype.vanishing());
            for value in [over, -over, f32::NAN, under, -under] {
                let refused = check(value).map_err(|e| e.to_string());
                let known =
                    value == 0.0 || refused.is_err_and(|e| e.contains("x: row 5, column 1"));
                assert!(known, "{dtype} {value:e}");
            }
            check(over.next_down()).unwrap();
            check(under.next_up()).unwrap();
        }
    }
}

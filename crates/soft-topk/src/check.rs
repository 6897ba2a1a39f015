//! The domain of the operator, checked before anything is computed.

use crate::engine::{Entry, Real};
use crate::error::{Error, Result};

/// Checks everything about a call but the values of x, which the engine checks as it reads them.
pub(crate) fn check<T: Real>(rows: usize, n: usize, k: &[T], alpha: T) -> Result<()> {
    if n < 2 || u32::try_from(n).is_err() {
        return Err(Error::RowLength { n });
    }
    check_alpha::<T>(alpha.to_f64())?;
    if k.len() != rows && k.len() != 1 {
        let (expected, got) = (format!("[{rows}] or [1]"), format!("[{}]", k.len()));
        return Err(Error::Shape { argument: "k", expected, got });
    }
    let bad = |k: &T| !(k.to_f64() > 0.0 && k.to_f64() < n as f64);
    if let Some(row) = k.iter().position(bad) {
        return Err(Error::Budget { row, k: k[row].to_f64(), n });
    }
    let least = least_budget::<T>(n);
    match k.iter().position(|k| k.to_f64() < least) {
        Some(row) => Err(Error::SmallBudget { row, k: k[row].to_f64(), least }),
        None => Ok(()),
    }
}

/// Checks a temperature in the precision `T`.
pub(crate) fn check_alpha<T: Real>(alpha: f64) -> Result<()> {
    let (least, most) = (T::SMALLEST.to_f64(), T::HOTTEST.to_f64());
    if alpha >= least && alpha <= most { Ok(()) } else { Err(Error::Alpha { alpha, least, most }) }
}

/// The smallest budget in the precision `T`: shared evenly, it gives weights whose last digit is a
/// normal number.
pub(crate) fn least_budget<T: Real>(n: usize) -> f64 {
    n as f64 * (T::SMALLEST.to_f64() / T::EPSILON.to_f64())
}

/// The error for a row in which some entry is not finite.
pub(crate) fn not_finite<E: Entry>(row: usize, entries: &[E]) -> Error {
    let column = entries.iter().position(|x| !x.show().is_finite()).unwrap_or(0);
    let value = entries.get(column).map_or(f64::NAN, |x| x.show());
    Error::NotFinite { row, column, value }
}

/// Compares a shape with that of x.
pub(crate) fn same_shape(argument: &'static str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
    Err(Error::Shape { argument, expected, got })
}

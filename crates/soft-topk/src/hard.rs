//! Hard top-k: the limit of the soft one as alpha goes to 0, with a budget for each row.

use ndarray::ArrayView2;

use crate::check::not_finite;
use crate::dense::{batch, flat, standard};
use crate::engine::{Entry, hard_forward};
use crate::error::{Error, Result};

/// The k largest entries of each row; of equal entries the first are chosen.
///
/// # Shapes
/// x `[batch, n]`, k `[batch]` or `[1]`.
///
/// # Errors
/// [`Error::RowLength`], [`Error::Shape`], [`Error::Count`] and [`Error::NotFinite`] for
/// arguments outside the domain.
///
/// ```
/// let x = ndarray::array![[3.0, 1.0, 2.0, 2.0], [5.0, 6.0, 7.0, 8.0]];
/// let chosen = soft_topk::hard_topk(x.view(), &[2, 1])?;
/// assert_eq!((chosen.row(0), chosen.row(1)), (&[0, 2][..], &[3][..]));
/// # Ok::<(), soft_topk::Error>(())
/// ```
pub fn hard_topk<E: Entry>(x: ArrayView2<'_, E>, k: &[usize]) -> Result<HardTopK> {
    let x = standard(x);
    let (flat, n) = flat(&x);
    HardTopK::of(flat, n, k)
}

/// The chosen entries, row by row.
#[derive(Clone, Debug)]
pub struct HardTopK {
    indptr: Vec<usize>,
    indices: Vec<u32>,
}

impl HardTopK {
    /// [`hard_topk`] of rows of length `n` that follow each other in `x`.
    ///
    /// # Shapes
    /// x `[batch·n]`, k `[batch]` or `[1]`.
    ///
    /// # Errors
    /// As [`hard_topk`].
    pub fn of<E: Entry>(x: &[E], n: usize, k: &[usize]) -> Result<Self> {
        let rows = batch("x", x.len(), n)?;
        if u32::try_from(n).is_err() {
            return Err(Error::RowLength { n });
        }
        if k.len() != rows && k.len() != 1 {
            let (expected, got) = (format!("[{rows}] or [1]"), format!("[{}]", k.len()));
            return Err(Error::Shape { argument: "k", expected, got });
        }
        if let Some(row) = k.iter().position(|k| *k > n) {
            return Err(Error::Count { row, k: k[row] as i64, n });
        }
        match hard_forward(x, n, k) {
            Ok((indptr, indices)) => Ok(Self { indptr, indices }),
            Err(row) => Err(not_finite(row, &x[row * n..(row + 1) * n])),
        }
    }

    /// Where each row begins in the list, and the end: `[batch + 1]`.
    pub fn indptr(&self) -> &[usize] {
        &self.indptr
    }

    /// The place in its row of each chosen entry, ascending within a row.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The places of the chosen entries of one row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.indices[self.indptr[row]..self.indptr[row + 1]]
    }
}

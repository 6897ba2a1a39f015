//! Borrowed dense matrices: a slice and its number of columns.

use crate::{Error, Result};

/// A dense row-major matrix, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    n_cols: usize,
}

impl<'a> Matrix<'a> {
    /// Views `data` as rows of `n_cols` columns; `name` is used in errors.
    ///
    /// # Errors
    /// [`Error::Ragged`] if `n_cols` is 0 or does not divide the length.
    pub fn new(name: &'static str, data: &'a [f32], n_cols: usize) -> Result<Self> {
        check_shape(name, data.len(), n_cols)?;
        Ok(Self { data, n_cols })
    }

    /// The number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.data.len() / self.n_cols
    }

    /// The number of columns.
    #[must_use]
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// All elements, row by row.
    #[must_use]
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not less than the number of rows.
    #[inline(always)]
    #[must_use]
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.n_cols..][..self.n_cols]
    }
}

fn check_shape(name: &'static str, len: usize, n_cols: usize) -> Result<()> {
    if n_cols == 0 || !len.is_multiple_of(n_cols) {
        return Err(Error::Ragged { name, n_cols, len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_consecutive() {
        let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let m = Matrix::new("m", &data, 3).unwrap();
        assert_eq!((m.n_rows(), m.n_cols()), (2, 3));
        assert_eq!(m.row(1), [4.0, 5.0, 6.0]);
    }

    #[test]
    fn a_ragged_slice_is_named() {
        let error = Matrix::new("decoder", &[0.0; 7], 3).unwrap_err();
        assert_eq!(error.to_string(), "decoder: expected rows of 3 columns, got 7 elements");
        assert!(Matrix::new("empty", &[], 0).is_err());
    }
}

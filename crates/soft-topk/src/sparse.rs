//! The operator with its support only: the entries whose weight is not 0, in CSR form.

use ndarray::{Array2, ArrayView2};

use crate::check::{check, not_finite, same_shape};
use crate::dense::{batch, flat, standard};
use crate::engine::{Entry, Real, SparseState, sparse_backward, sparse_forward};
use crate::error::Result;

/// Soft top-k weights as their support.
///
/// # Shapes
/// x `[batch, n]`, k `[batch]` or `[1]`.
///
/// # Errors
/// As [`soft_topk`](crate::soft_topk).
///
/// ```
/// let x = ndarray::array![[3.0_f32, 1.0, 2.0, 0.0]];
/// let sparse = soft_topk::soft_topk_sparse(x.view(), &[2.0], 1e-4)?;
/// assert_eq!(sparse.row(0).0, [0, 2]);
/// # Ok::<(), soft_topk::Error>(())
/// ```
pub fn soft_topk_sparse<E: Entry>(
    x: ArrayView2<'_, E>,
    k: &[E::Real],
    alpha: E::Real,
) -> Result<SparseTopK<E::Real>> {
    let mut sparse = SparseTopK::default();
    let x = standard(x);
    let (flat, n) = flat(&x);
    sparse.forward(flat, n, k, alpha)?;
    Ok(sparse)
}

/// The support of soft top-k weights, row by row, and what its gradient needs.
///
/// An entry belongs to the support if p > 0: ½e^−|z| counts as 0 beyond |z| = 86 (`f32`) or 706
/// (`f64`). Within a row entries are in the order of x. The lists are reused by the next
/// [`forward`](Self::forward).
#[derive(Clone, Debug, Default)]
pub struct SparseTopK<T> {
    state: SparseState<T>,
}

impl<T: Real> SparseTopK<T> {
    /// Finds the support for rows of length `n` that follow each other in `x`.
    ///
    /// # Shapes
    /// x `[batch·n]`, k `[batch]` or `[1]`.
    ///
    /// # Errors
    /// As [`soft_topk`](crate::soft_topk); after [`Error::NotFinite`](crate::Error::NotFinite) there
    /// are no rows.
    pub fn forward<E: Entry<Real = T>>(
        &mut self,
        x: &[E],
        n: usize,
        k: &[T],
        alpha: T,
    ) -> Result<()> {
        check(batch("x", x.len(), n)?, n, k, alpha)?;
        match sparse_forward(x, n, k, alpha, &mut self.state) {
            Some(row) => {
                self.state = SparseState::default();
                Err(not_finite(row, &x[row * n..(row + 1) * n]))
            }
            None => Ok(()),
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.state.all.rows.len()
    }

    /// The length of a row of x.
    pub fn n(&self) -> usize {
        self.state.n
    }

    /// Where each row begins in the lists, and the end: `[batch + 1]`.
    pub fn indptr(&self) -> &[usize] {
        &self.state.indptr
    }

    /// The place in its row of each entry of the support.
    pub fn indices(&self) -> &[u32] {
        &self.state.all.indices
    }

    /// The weight of each entry of the support.
    pub fn values(&self) -> &[T] {
        &self.state.all.values
    }

    /// The indices and weights of one row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> (&[u32], &[T]) {
        let range = self.state.indptr[row]..self.state.indptr[row + 1];
        (&self.state.all.indices[range.clone()], &self.state.all.values[range])
    }

    /// θ of each row.
    pub fn thresholds(&self) -> impl Iterator<Item = T> {
        self.state.thresholds()
    }

    /// The weights of all entries, `[batch, n]`.
    pub fn to_dense(&self) -> Array2<T> {
        let mut dense = Array2::from_elem((self.rows(), self.n()), T::ZERO);
        for (row, mut out) in dense.outer_iter_mut().enumerate() {
            let (indices, values) = self.row(row);
            for (&index, &value) in indices.iter().zip(values) {
                out[index as usize] = value;
            }
        }
        dense
    }

    /// The gradients of Σ v·p, where v is given on the support and 0 elsewhere.
    ///
    /// # Shapes
    /// v `[nnz]`, as [`values`](Self::values).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if v does not have an entry for each of the support.
    pub fn backward(&self, v: &[T]) -> Result<SparseGradients<T>> {
        let mut x = vec![T::ZERO; self.values().len()];
        let mut k = vec![T::ZERO; self.rows()];
        let alpha = self.backward_into(v, &mut x, &mut k, true)?;
        Ok(SparseGradients { x, k, alpha: T::from_f64(alpha) })
    }

    /// [`backward`](Self::backward) into slices of the caller; the gradient for alpha is returned,
    /// and is 0 unless wanted.
    ///
    /// # Shapes
    /// v and grad_x `[nnz]`, grad_k `[batch]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a length is another.
    pub fn backward_into(
        &self,
        v: &[T],
        grad_x: &mut [T],
        grad_k: &mut [T],
        want_alpha: bool,
    ) -> Result<f64> {
        let nnz = [self.values().len()];
        same_shape("v", &nnz, &[v.len()])?;
        same_shape("grad_x", &nnz, &[grad_x.len()])?;
        same_shape("grad_k", &[self.rows()], &[grad_k.len()])?;
        Ok(sparse_backward(&self.state, v, grad_x, grad_k, want_alpha))
    }
}

/// The gradients of a sparse soft top-k.
#[derive(Clone, Debug)]
pub struct SparseGradients<T> {
    /// For the entries of x in the support, in the order of the lists.
    pub x: Vec<T>,
    /// For each row's budget.
    pub k: Vec<T>,
    /// For alpha.
    pub alpha: T,
}

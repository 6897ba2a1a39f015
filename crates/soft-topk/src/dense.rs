//! The operator with a weight for every entry.

use ndarray::{Array1, Array2, ArrayView2, CowArray, Ix2};

use crate::check::{check, not_finite, same_shape};
use crate::engine::{DenseState, Entry, Real, dense_backward, dense_forward};
use crate::error::{Error, Result};

/// Soft top-k weights of each row of x: p_i = F((x_i − θ)/alpha) with Σp = k.
///
/// F(z) = ½e^z for z ≤ 0 and 1 − ½e^−z for z > 0, the distribution of Laplace's law. `k` holds a
/// budget for each row, or one for all. Half precisions are computed in `f32`.
///
/// # Shapes
/// x `[batch, n]`, k `[batch]` or `[1]`; weights `[batch, n]`.
///
/// # Errors
/// [`Error::RowLength`], [`Error::Alpha`], [`Error::Shape`], [`Error::Budget`],
/// [`Error::SmallBudget`] and [`Error::NotFinite`] for arguments outside the domain.
///
/// ```
/// let x = ndarray::array![[3.0, 1.0, 2.0, 0.0]];
/// let soft = soft_topk::soft_topk(x.view(), &[2.0], 0.1)?;
/// let sum: f64 = soft.weights().sum();
/// assert!((sum - 2.0).abs() < 1e-12);
/// # Ok::<(), soft_topk::Error>(())
/// ```
pub fn soft_topk<E: Entry>(
    x: ArrayView2<'_, E>,
    k: &[E::Real],
    alpha: E::Real,
) -> Result<SoftTopK<E::Real>> {
    let mut saved = Saved::default();
    let mut weights = Array2::from_elem(x.dim(), E::Real::ZERO);
    let x = standard(x);
    let (flat, n) = flat(&x);
    if let Some(out) = weights.as_slice_mut() {
        saved.forward(flat, n, k, alpha, out)?;
    }
    Ok(SoftTopK { weights, saved })
}

/// Soft top-k weights and what their gradient needs.
#[derive(Clone, Debug)]
pub struct SoftTopK<T> {
    weights: Array2<T>,
    saved: Saved<T>,
}

impl<T: Real> SoftTopK<T> {
    /// p, `[batch, n]`.
    pub fn weights(&self) -> &Array2<T> {
        &self.weights
    }

    /// p, without the rest.
    pub fn into_weights(self) -> Array2<T> {
        self.weights
    }

    /// θ of each row, `[batch]`.
    pub fn thresholds(&self) -> Array1<T> {
        self.saved.thresholds().collect()
    }

    /// The gradients of Σ v·p, where `x` is what the weights were computed from.
    ///
    /// # Shapes
    /// x and v `[batch, n]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a shape is not that of the weights.
    pub fn backward<E: Entry<Real = T>>(
        &self,
        x: ArrayView2<'_, E>,
        v: ArrayView2<'_, T>,
    ) -> Result<Gradients<T>> {
        same_shape("x", self.weights.shape(), x.shape())?;
        same_shape("v", self.weights.shape(), v.shape())?;
        let mut grad = Array2::from_elem(x.dim(), T::ZERO);
        let (x, v) = (standard(x), standard(v));
        let mut k = vec![T::ZERO; x.nrows()];
        let mut alpha = 0.0;
        if let Some(grad) = grad.as_slice_mut() {
            let weights = self.weights.as_slice().unwrap_or_default();
            alpha = self.saved.backward(flat(&x).0, weights, flat(&v).0, grad, &mut k, true)?;
        }
        Ok(Gradients { x: grad, k: k.into(), alpha: T::from_f64(alpha) })
    }
}

/// The gradients of a dense soft top-k.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// For x, `[batch, n]`.
    pub x: Array2<T>,
    /// For each row's budget, `[batch]`; where one stands for all, its gradient is their sum.
    pub k: Array1<T>,
    /// For alpha.
    pub alpha: T,
}

/// The state between a forward pass over slices and its backward pass; its rooms are reused by
/// the next forward pass.
#[derive(Clone, Debug, Default)]
pub struct Saved<T> {
    state: DenseState<T>,
}

impl<T: Real> Saved<T> {
    /// [`soft_topk`] over rows of length `n` that follow each other in `x`, written to `out`.
    ///
    /// # Shapes
    /// x and out `[batch·n]`, k `[batch]` or `[1]`.
    ///
    /// # Errors
    /// As [`soft_topk`]; after [`Error::NotFinite`] `out` is of no use and the state has no rows.
    pub fn forward<E: Entry<Real = T>>(
        &mut self,
        x: &[E],
        n: usize,
        k: &[T],
        alpha: T,
        out: &mut [T],
    ) -> Result<()> {
        check(batch("x", x.len(), n)?, n, k, alpha)?;
        same_shape("out", &[x.len()], &[out.len()])?;
        match dense_forward(x, n, k, alpha, out, &mut self.state) {
            Some(row) => {
                self.state = DenseState::default();
                Err(not_finite(row, &x[row * n..(row + 1) * n]))
            }
            None => Ok(()),
        }
    }

    /// Writes the gradient for x to `grad_x` and for each row's k to `grad_k`, and returns that
    /// for alpha, which is 0 unless wanted. `x` and `weights` are what forward read and wrote.
    ///
    /// # Shapes
    /// x, weights, v and grad_x `[batch·n]`, grad_k `[batch]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a length is not that of the forward pass.
    pub fn backward<E: Entry<Real = T>>(
        &self,
        x: &[E],
        weights: &[T],
        v: &[T],
        grad_x: &mut [T],
        grad_k: &mut [T],
        want_alpha: bool,
    ) -> Result<f64> {
        let (rows, n) = (self.state.rows(), self.state.n());
        same_shape("x", &[rows * n], &[x.len()])?;
        same_shape("weights", &[rows * n], &[weights.len()])?;
        same_shape("v", &[rows * n], &[v.len()])?;
        same_shape("grad_x", &[rows * n], &[grad_x.len()])?;
        same_shape("grad_k", &[rows], &[grad_k.len()])?;
        if rows == 0 {
            return Ok(0.0);
        }
        Ok(dense_backward(&self.state, (x, weights), v, grad_x, grad_k, want_alpha))
    }

    /// θ of each row.
    pub fn thresholds(&self) -> impl Iterator<Item = T> {
        self.state.thresholds()
    }
}

/// The number of rows in a flat slice.
pub(crate) fn batch(argument: &'static str, len: usize, n: usize) -> Result<usize> {
    if n == 0 {
        return Err(Error::RowLength { n });
    }
    if !len.is_multiple_of(n) {
        let (expected, got) = (format!("a multiple of {n} entries"), format!("{len}"));
        return Err(Error::Shape { argument, expected, got });
    }
    Ok(len / n)
}

/// The array in C order, copied only if it is not.
pub(crate) fn standard<T: Copy>(x: ArrayView2<'_, T>) -> CowArray<'_, T, Ix2> {
    if x.is_standard_layout() { x.into() } else { x.as_standard_layout().into_owned().into() }
}

/// The entries of an array in C order, and the length of its rows.
pub(crate) fn flat<'a, T>(x: &'a CowArray<'_, T, Ix2>) -> (&'a [T], usize) {
    (x.as_slice().unwrap_or_default(), x.ncols())
}

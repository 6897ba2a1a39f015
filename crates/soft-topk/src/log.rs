//! The logarithm of the weights, which does not underflow.

use ndarray::{Array1, Array2, ArrayView2};

use crate::check::{check, not_finite, same_shape};
use crate::dense::{Gradients, batch, flat, standard};
use crate::engine::{Entry, LogState, Real, log_backward, log_forward};
use crate::error::Result;

/// ln p for the weights p of [`soft_topk`](crate::soft_topk()), also where p is too small for a
/// number: far below the threshold it is (x − θ)/alpha − ln 2.
///
/// # Shapes
/// x `[batch, n]`, k `[batch]` or `[1]`; logarithms `[batch, n]`.
///
/// # Errors
/// As [`soft_topk`](crate::soft_topk()).
///
/// ```
/// let x = ndarray::array![[3.0_f64, 1.0, 2.0, 0.0]];
/// let log = soft_topk::log_soft_topk(x.view(), &[1.5], 1e-3)?;
/// assert!((log.values()[[0, 1]] + 1000.0).abs() < 1.0);
/// # Ok::<(), soft_topk::Error>(())
/// ```
pub fn log_soft_topk<E: Entry>(
    x: ArrayView2<'_, E>,
    k: &[E::Real],
    alpha: E::Real,
) -> Result<LogSoftTopK<E::Real>> {
    let mut saved = SavedLog::default();
    let mut values = Array2::from_elem(x.dim(), E::Real::ZERO);
    let x = standard(x);
    let (flat, n) = flat(&x);
    if let Some(out) = values.as_slice_mut() {
        saved.forward(flat, n, k, alpha, out)?;
    }
    Ok(LogSoftTopK { values, saved })
}

/// The logarithms of soft top-k weights, and what their gradient needs.
#[derive(Clone, Debug)]
pub struct LogSoftTopK<T> {
    values: Array2<T>,
    saved: SavedLog<T>,
}

impl<T: Real> LogSoftTopK<T> {
    /// ln p, `[batch, n]`.
    pub fn values(&self) -> &Array2<T> {
        &self.values
    }

    /// The gradients of Σ v·ln p, where `x` is what the logarithms were computed from.
    ///
    /// # Shapes
    /// x and v `[batch, n]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a shape is not that of the logarithms.
    pub fn backward<E: Entry<Real = T>>(
        &self,
        x: ArrayView2<'_, E>,
        v: ArrayView2<'_, T>,
    ) -> Result<Gradients<T>> {
        same_shape("x", self.values.shape(), x.shape())?;
        same_shape("v", self.values.shape(), v.shape())?;
        let mut grad = Array2::from_elem(x.dim(), T::ZERO);
        let mut k = Array1::from_elem(x.nrows(), T::ZERO);
        let (x, v) = (standard(x), standard(v));
        let mut alpha = 0.0;
        if let (Some(grad), Some(k)) = (grad.as_slice_mut(), k.as_slice_mut()) {
            alpha = self.saved.backward(flat(&x).0, flat(&v).0, grad, k)?;
        }
        Ok(Gradients { x: grad, k, alpha: T::from_f64(alpha) })
    }
}

/// The state between a forward pass over slices and its backward pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct SavedLog<T> {
    state: LogState<T>,
}

impl<T: Real> SavedLog<T> {
    pub(crate) fn forward<E: Entry<Real = T>>(
        &mut self,
        x: &[E],
        n: usize,
        k: &[T],
        alpha: T,
        out: &mut [T],
    ) -> Result<()> {
        check(batch("x", x.len(), n)?, n, k, alpha)?;
        match log_forward(x, n, k, alpha, out, &mut self.state) {
            Some(row) => Err(not_finite(row, &x[row * n..(row + 1) * n])),
            None => Ok(()),
        }
    }

    pub(crate) fn backward<E: Entry<Real = T>>(
        &self,
        x: &[E],
        v: &[T],
        grad_x: &mut [T],
        grad_k: &mut [T],
    ) -> Result<f64> {
        let (rows, n) = (self.state.rows(), self.state.n);
        same_shape("v", &[rows * n], &[v.len()])?;
        if rows == 0 {
            return Ok(0.0);
        }
        Ok(log_backward(&self.state, x, v, grad_x, grad_k))
    }
}

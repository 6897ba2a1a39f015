//! Soft bottom-k: weights for the smallest entries.

use ndarray::{Array1, Array2, ArrayView2};

use crate::dense::{Gradients, SoftTopK, soft_topk};
use crate::engine::{Entry, Real};
use crate::error::Result;

/// Soft bottom-k weights of each row of x: those of [`soft_topk`] for −x, which sum to k and are
/// 1 less the top weights for a budget of n − k.
///
/// # Shapes
/// x `[batch, n]`, k `[batch]` or `[1]`; weights `[batch, n]`.
///
/// # Errors
/// As [`soft_topk`].
///
/// ```
/// let x = ndarray::array![[3.0, 1.0, 2.0, 0.0]];
/// let soft = soft_topk::soft_bottomk(x.view(), &[1.5], 1e-2)?;
/// let p: &[f64] = soft.weights().as_slice().unwrap();
/// assert!(p[3] > 0.99 && (p[1] - 0.5).abs() < 0.01 && p[2] < 0.01);
/// # Ok::<(), soft_topk::Error>(())
/// ```
pub fn soft_bottomk<E: Entry>(
    x: ArrayView2<'_, E>,
    k: &[E::Real],
    alpha: E::Real,
) -> Result<SoftBottomK<E::Real>> {
    Ok(SoftBottomK { mirrored: soft_topk(x.mapv(|x| -x).view(), k, alpha)? })
}

/// Soft bottom-k weights and what their gradient needs.
#[derive(Clone, Debug)]
pub struct SoftBottomK<T> {
    mirrored: SoftTopK<T>,
}

impl<T: Real> SoftBottomK<T> {
    /// p, `[batch, n]`.
    pub fn weights(&self) -> &Array2<T> {
        self.mirrored.weights()
    }

    /// θ of each row, `[batch]`: p is ½ there, and falls as x rises.
    pub fn thresholds(&self) -> Array1<T> {
        self.mirrored.thresholds().mapv(|theta| -theta)
    }

    /// The gradients of Σ v·p, where `x` is what the weights were computed from.
    ///
    /// # Shapes
    /// x and v `[batch, n]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a shape is not that of the weights.
    pub fn backward<E: Entry<Real = T>>(
        &self,
        x: ArrayView2<'_, E>,
        v: ArrayView2<'_, T>,
    ) -> Result<Gradients<T>> {
        let mut gradients = self.mirrored.backward(x.mapv(|x| -x).view(), v)?;
        gradients.x.mapv_inplace(|x| -x);
        Ok(gradients)
    }
}

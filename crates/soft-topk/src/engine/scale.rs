//! Thresholds and the temperature, kept so that differences near the threshold are exact.

use super::real::Real;

/// alpha in the forms that the kernels need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale<T> {
    /// 1/alpha.
    pub(crate) inverse: T,
    /// alpha as the kernels see it: 1/inverse.
    pub(crate) alpha: f64,
}

impl<T: Real> Scale<T> {
    pub(crate) fn new(alpha: T) -> Self {
        let inverse = T::ONE / alpha;
        Self { inverse, alpha: 1.0 / inverse.to_f64() }
    }
}

/// A threshold θ = pivot + offset·alpha.
///
/// With the pivot a number of the precision T near θ, x − pivot is exact for every x that is
/// near too, however small alpha is beside the spacing of numbers there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Point<T> {
    pub(crate) pivot: T,
    /// In units of alpha.
    pub(crate) offset: f64,
}

impl<T: Real> Point<T> {
    pub(crate) fn at(pivot: T) -> Self {
        Self { pivot, offset: 0.0 }
    }

    /// A point whose offset is finite: what lies further is no nearer to any entry.
    pub(crate) fn new(pivot: T, offset: f64) -> Self {
        Self { pivot, offset: offset.clamp(-0.25 * f64::MAX, 0.25 * f64::MAX) }
    }

    /// The offset in the precision of the row: finite, and −0 instead of 0, since −0 − 0 is −0 but
    /// 0 − 0 is 0, by which equal entries would be told apart.
    #[inline(always)]
    pub(crate) fn shift(self) -> T {
        let most = 0.25 * T::LARGEST.to_f64();
        T::from_f64(-(0.0 - self.offset.clamp(-most, most)))
    }

    /// The point `step` units of alpha higher, on the number next to it.
    pub(crate) fn moved(self, step: f64, scale: Scale<T>) -> Self {
        let offset = self.offset + step;
        let pivot = T::from_f64(self.pivot.to_f64() + offset * scale.alpha);
        let gone = (pivot.to_f64() - self.pivot.to_f64()) / scale.alpha;
        if pivot.abs() <= T::LARGEST && gone.is_finite() {
            Self::new(pivot, offset - gone)
        } else {
            Self::new(self.pivot, offset)
        }
    }

    /// How far `other` lies above this point, in units of alpha.
    pub(crate) fn up_to(self, other: Self, scale: Scale<T>) -> f64 {
        (other.pivot.to_f64() - self.pivot.to_f64()) / scale.alpha + (other.offset - self.offset)
    }

    /// θ.
    pub(crate) fn value(self, scale: Scale<T>) -> T {
        T::from_f64(self.pivot.to_f64() + self.offset * scale.alpha)
    }
}

/// z = (x − θ)/alpha.
#[inline(always)]
pub(crate) fn distance<T: Real>(x: T, pivot: T, offset: T, inverse: T) -> T {
    (x - pivot) * inverse - offset
}

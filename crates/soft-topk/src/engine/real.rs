//! The two precisions of the engine, and their exponential.

use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A precision that the engine computes in: `f32` or `f64`.
pub trait Real:
    sealed::Sealed
    + Copy
    + Default
    + Debug
    + Display
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// ½.
    const HALF: Self;
    /// The smallest positive normal number.
    const SMALLEST: Self;
    /// The distance from 1 to the next number.
    const EPSILON: Self;
    /// The largest finite number.
    const LARGEST: Self;
    /// Infinity.
    const INFINITY: Self;
    /// Where tails end: ½e^−CUT is still a normal number, and what lies beyond counts as 0.
    const CUT: Self;
    /// The largest temperature: entries whose difference overflows are further than CUT apart.
    const HOTTEST: Self;
    /// A step of the threshold, in units of alpha, after which its error is below rounding.
    const STEP: f64;

    /// The nearest number to `value`.
    fn from_f64(value: f64) -> Self;
    /// The number, exactly.
    fn to_f64(self) -> f64;
    /// |x|.
    fn abs(self) -> Self;
    /// e^−a for a ≥ 0, and exactly 0 for a > CUT.
    ///
    /// Relative error at most 2 units in the last place.
    fn exp_neg(a: Self) -> Self;
    /// This number, which is not negative, with the sign bit of `z`.
    fn signed_like(self, z: Self) -> Self;
    /// Whether the sign bit is set, of −0 too.
    fn is_signed(self) -> bool;
    /// The order of all numbers, by which ties of 0 and −0 are told apart nowhere.
    fn order(a: &Self, b: &Self) -> std::cmp::Ordering {
        a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const HALF: Self = 0.5;
    const SMALLEST: Self = f32::MIN_POSITIVE;
    const EPSILON: Self = f32::EPSILON;
    const LARGEST: Self = f32::MAX;
    const INFINITY: Self = f32::INFINITY;
    const CUT: Self = 86.0;
    const HOTTEST: Self = f32::MAX / 128.0;
    const STEP: f64 = 3e-5;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }

    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }

    /// e^−a = 2^n·e^r with n = round(−a/ln 2): the rounding by adding 1.5·2²³, ln 2 in two parts so
    /// that r is exact to the last bit, e^r = 1 + r + r²·q(r) with q the minimax polynomial of degree
    /// 4 (relative error 3e-9). A fused multiplication and addition rounds alike on every processor,
    /// so that all give the same bits.
    #[inline(always)]
    fn exp_neg(a: Self) -> Self {
        const ROUND: f32 = 12_582_912.0;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let shifted = a.mul_add(-std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, -a));
        let mut q = 1.381_459_9e-3_f32;
        q = q.mul_add(r, 8.368_717e-3);
        q = q.mul_add(r, 4.166_839e-2);
        q = q.mul_add(r, 1.666_652_1e-1);
        q = q.mul_add(r, 4.999_999_4e-1);
        let e_r = q.mul_add(r * r, r) + 1.0;
        // The last bits of `shifted` are n: added to the exponent of e^r.
        let e = f32::from_bits(e_r.to_bits().wrapping_add(shifted.to_bits() << 23));
        if a <= Self::CUT { e } else { 0.0 }
    }

    #[inline(always)]
    fn signed_like(self, z: Self) -> Self {
        f32::from_bits(self.to_bits() | (z.to_bits() & (1 << 31)))
    }

    #[inline(always)]
    fn is_signed(self) -> bool {
        self.is_sign_negative()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const HALF: Self = 0.5;
    const SMALLEST: Self = f64::MIN_POSITIVE;
    const EPSILON: Self = f64::EPSILON;
    const LARGEST: Self = f64::MAX;
    const INFINITY: Self = f64::INFINITY;
    const CUT: Self = 706.0;
    const HOTTEST: Self = f64::MAX / 1024.0;
    const STEP: f64 = 1e-8;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }

    /// As in `f32`, with the Taylor polynomial of degree 13: |r| ≤ ½ ln 2 leaves 4e-18.
    #[inline(always)]
    fn exp_neg(a: Self) -> Self {
        const ROUND: f64 = 6_755_399_441_055_744.0;
        const LN2_HIGH: f64 = 0.693_145_751_953_125;
        const LN2_LOW: f64 = 1.428_606_820_309_417_3e-6;
        let shifted = a.mul_add(-std::f64::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, -a));
        let mut q = 1.0_f64 / 6_227_020_800.0;
        q = q.mul_add(r, 1.0 / 479_001_600.0);
        q = q.mul_add(r, 1.0 / 39_916_800.0);
        q = q.mul_add(r, 1.0 / 3_628_800.0);
        q = q.mul_add(r, 1.0 / 362_880.0);
        q = q.mul_add(r, 1.0 / 40_320.0);
        q = q.mul_add(r, 1.0 / 5_040.0);
        q = q.mul_add(r, 1.0 / 720.0);
        q = q.mul_add(r, 1.0 / 120.0);
        q = q.mul_add(r, 1.0 / 24.0);
        q = q.mul_add(r, 1.0 / 6.0);
        q = q.mul_add(r, 0.5);
        let e_r = q.mul_add(r * r, r) + 1.0;
        let e = f64::from_bits(e_r.to_bits().wrapping_add(shifted.to_bits() << 52));
        if a <= Self::CUT { e } else { 0.0 }
    }

    #[inline(always)]
    fn signed_like(self, z: Self) -> Self {
        f64::from_bits(self.to_bits() | (z.to_bits() & (1 << 63)))
    }

    #[inline(always)]
    fn is_signed(self) -> bool {
        self.is_sign_negative()
    }
}

#[cfg(test)]
mod tests {
    use super::Real;

    fn worst<T: Real>(unit: f64) -> f64 {
        (0..200_000)
            .map(|i| {
                let a = T::from_f64(T::CUT.to_f64() * i as f64 / 200_000.0);
                let exact = (-a.to_f64()).exp();
                ((T::exp_neg(a).to_f64() - exact) / exact).abs() / unit
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        assert!(worst::<f32>(f32::EPSILON as f64) <= 2.0);
        assert!(worst::<f64>(f64::EPSILON) <= 2.0);
    }

    #[test]
    fn the_exponential_ends_at_the_cut() {
        assert_eq!(f32::exp_neg(0.0), 1.0);
        assert_eq!(f64::exp_neg(0.0), 1.0);
        assert!(0.5 * f32::exp_neg(f32::CUT) >= f32::MIN_POSITIVE);
        assert!(0.5 * f64::exp_neg(f64::CUT) >= f64::MIN_POSITIVE);
        for beyond in [86.1, 1e30, f32::INFINITY] {
            assert_eq!(f32::exp_neg(beyond), 0.0);
        }
        for beyond in [706.1, 1e300, f64::INFINITY] {
            assert_eq!(f64::exp_neg(beyond), 0.0);
        }
    }
}

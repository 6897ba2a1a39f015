//! What a row may be made of: the engine's own precisions, and half precisions read as `f32`.

use std::ops::Neg;

use half::{bf16, f16};

use super::real::Real;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A type of input entries: `f32`, `f64`, or `f16` and `bf16`, which are computed in `f32`.
pub trait Entry: sealed::Sealed + Copy + Send + Sync + Neg<Output = Self> + 'static {
    /// The precision of the computation and of the weights.
    type Real: Real;

    /// The row in that precision: itself, or a copy in `room`.
    fn row<'a>(row: &'a [Self], room: &'a mut Vec<Self::Real>) -> &'a [Self::Real];

    /// The entry as a number to show.
    fn show(self) -> f64;
}

macro_rules! plain {
    ($($real:ty),*) => {$(
        impl Entry for $real {
            type Real = $real;

            #[inline(always)]
            fn row<'a>(row: &'a [Self], _room: &'a mut Vec<$real>) -> &'a [$real] {
                row
            }

            fn show(self) -> f64 {
                self.to_f64()
            }
        }
    )*};
}

plain!(f32, f64);

macro_rules! half_precision {
    ($($half:ty),*) => {$(
        impl Entry for $half {
            type Real = f32;

            fn row<'a>(row: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32] {
                use half::slice::HalfFloatSliceExt;
                room.resize(row.len(), 0.0);
                row.convert_to_f32_slice(room);
                room
            }

            fn show(self) -> f64 {
                self.to_f64()
            }
        }
    )*};
}

half_precision!(f16, bf16);

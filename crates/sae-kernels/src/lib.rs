//! Sparse codes and the CPU kernels of the fast engine.

#![doc = include_str!("../README.md")]

mod adam;
mod codes;
mod decode;
mod dense;
mod difference;
mod error;
mod estimator;
mod feature_major;
mod gradient;
mod groups;
mod matrix;
mod reconstruct;
mod select;
mod simd;

pub use adam::{AdamStep, Moments, adam};
pub use codes::{DENSE_FROM, SparseCodes};
pub use decode::{code_gradients, decode, dense_residual};
pub use dense::{add_bias_relu, column_sums, squared_norm, subtract_row};
pub use difference::error_differences;
pub use error::{Error, Result};
pub use estimator::{estimator_backward, estimator_forward};
pub use feature_major::{Entry, FeatureMajor};
pub use gradient::{
    EncoderGradient, Projection, Source, SquaredNorms, project_rows, weight_gradients,
};
pub use groups::Groups;
pub use matrix::Matrix;
pub use reconstruct::{Reconstruction, reconstruct};
pub use select::{Count, Rank, Selector};

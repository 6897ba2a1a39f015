//! Differentiable functions for tch, and checked views of CPU tensors.
#![doc = include_str!("../README.md")]

mod bridge;
mod error;
mod ffi;
mod function;
mod gradcheck;
mod view;

pub use error::{BoxError, Error};
pub use function::{BackwardContext, ForwardContext, Function, apply};
pub use gradcheck::{GradcheckOptions, gradcheck};
pub use view::{Element, view, view_mut};

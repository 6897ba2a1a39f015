//! Differentiable functions for tch, checked views and fast products of CPU tensors.
#![doc = include_str!("../README.md")]

mod bridge;
mod device;
mod error;
mod ffi;
mod function;
mod gradcheck;
#[cfg(feature = "gemm")]
mod product;
pub mod read;
#[cfg(feature = "gemm")]
mod slices;
mod testing;
mod view;

pub use device::{
    DeviceError, DeviceMemory, Fault, Upload, Version, allow_tf32, allows_tf32, capability, catch,
    device,
};
pub use error::{BoxError, Error};
pub use function::{BackwardContext, ForwardContext, Function, apply};
pub use gradcheck::{GradcheckOptions, gradcheck};
#[cfg(feature = "gemm")]
pub use product::matmul_into;
#[cfg(feature = "gemm")]
pub use slices::{Factor, multiply};
pub use testing::{test_device, test_device_name};
pub use view::{Element, View, view, view_mut};

pub use tch;

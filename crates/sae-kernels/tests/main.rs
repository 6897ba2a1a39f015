//! Kernels against their definitions in f64.

mod naive;
mod optimizer;
mod properties;
mod selection;
mod threads;
mod weight_gradients;

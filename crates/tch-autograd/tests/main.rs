//! The guarantees of this crate, each through its public interface.

mod errors;
mod functions;
mod gradients;
mod graph;
mod ownership;
#[cfg(feature = "gemm")]
mod products;
mod views;
mod writes;

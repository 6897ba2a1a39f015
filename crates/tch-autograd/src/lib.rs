//! Differentiable functions for tch written in Rust, and checked views of CPU tensors

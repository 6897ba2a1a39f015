//! The guarantees of this crate, each through its public interface.

mod functions;
mod gradients;

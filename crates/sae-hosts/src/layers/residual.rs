//! The residual stream.

use tch::Tensor;

use super::cpu;

/// The stream after a block has added `y`.
pub(crate) fn add(x: &Tensor, mut y: Tensor) -> Tensor {
    match cpu::add(x, &mut y) {
        Some(()) => y,
        None => x + y,
    }
}

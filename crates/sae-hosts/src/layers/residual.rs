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

/// What a block gives, scaled feature by feature where the layer has scales (Touvron et al. 2021).
pub(crate) fn scaled(mut x: Tensor, scale: Option<&Tensor>) -> Tensor {
    match scale {
        Some(scale) if cpu::scale_rows(&mut x, scale).is_none() => x * scale,
        Some(_) | None => x,
    }
}

//! The operator over libtorch tensors, on any device, as one of autograd's own.
//!
//! CPU tensors go through the engine without a copy; tensors on other devices through ATen
//! operations. Everything works along one dimension of a tensor of any rank.

mod arguments;
mod aten;
mod cpu;
mod form;
mod gap;
mod hard;
mod soft;

pub use arguments::Argument;
pub use hard::{hard_topk, hard_topk_dim, hard_topk_mask, hard_topk_mask_dim};
pub use soft::{
    log_soft_topk, log_soft_topk_dim, soft_bottomk, soft_bottomk_dim, soft_topk, soft_topk_dim,
    soft_topk_or_nan,
};

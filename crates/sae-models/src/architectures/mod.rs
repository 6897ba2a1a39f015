//! The architectures: one file each, with initial values and the rule of inference.

mod abs_topk;
mod batch_topk;
mod gated;
mod jumprelu;
mod soft;
mod standard;
mod topk;

pub use abs_topk::AbsTopK;
pub use batch_topk::BatchTopK;
pub use gated::Gated;
pub use jumprelu::JumpRelu;
pub use soft::{Estimator, Soft};
pub use standard::Standard;
pub use topk::TopK;

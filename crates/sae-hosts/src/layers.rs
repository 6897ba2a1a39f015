//! Parts that host families are built of.

mod attention;
mod linear;
mod norm;
mod rotary;

pub(crate) use attention::{Attention, Mask};
pub(crate) use linear::Linear;
pub(crate) use norm::{LayerNorm, RmsNorm};
pub(crate) use rotary::Rotary;

//! Parts that host families are built of.

mod activation;
mod attention;
mod cpu;
mod encoder;
mod linear;
mod norm;
mod past;
mod residual;
mod rotary;

pub(crate) use activation::Activation;
pub(crate) use attention::{Attention, Mask};
pub(crate) use encoder::{EncoderLayer, EncoderNames, PatchEmbedding};
pub(crate) use linear::Linear;
pub(crate) use norm::{LayerNorm, RmsNorm};
pub use past::Past;
pub(crate) use residual::{add, scaled};
pub(crate) use rotary::{Rotary, RotaryKeys};

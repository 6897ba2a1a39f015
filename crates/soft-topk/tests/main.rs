//! The operator against golden numbers, its own properties and its other implementation.

mod batches;
#[cfg(feature = "tch")]
mod device;
mod domain;
mod exact;
mod golden;
mod gradients;
mod oracle;
mod properties;
#[cfg(feature = "tch")]
mod tensor;

//! The operator against golden numbers, its own properties and its other implementation.

mod golden;
#[cfg(feature = "tch")]
mod tensor;

//! Integration tests of sae-models: one binary.

mod checkpoints;
mod common;
mod interop;
mod properties;
mod selections;

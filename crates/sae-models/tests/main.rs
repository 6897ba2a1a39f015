//! Integration tests of sae-models: one binary.

mod checkpoints;
mod common;
mod properties;
mod selections;

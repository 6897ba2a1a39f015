//! Integration tests of sae-models: one binary.

mod checkpoints;
mod common;
mod interop;
mod normalizer;
mod properties;
mod selections;
mod transcoders;
mod version1;

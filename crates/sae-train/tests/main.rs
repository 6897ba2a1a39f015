//! Integration tests of sae-train: one binary.

mod golden;
mod runs;
mod steps;

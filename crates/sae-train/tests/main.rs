//! Integration tests of sae-train: one binary.

mod engines;
mod golden;
mod runs;
mod steps;

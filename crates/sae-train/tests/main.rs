//! Integration tests of sae-train: one binary.

mod engines;
mod golden;
mod reads;
mod runs;
mod starts;
mod steps;
mod support;
mod together;
mod transcoders;
mod version1;

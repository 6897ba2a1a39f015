//! Stores, loader and statistics through the public interface.

mod compact;
mod faults;
mod flat;
mod folders;
mod formats;
mod loader;
mod native;
mod planted;
mod processes;
mod properties;
mod signs;
mod support;
mod synth;
mod views;
mod writers;
mod zip;

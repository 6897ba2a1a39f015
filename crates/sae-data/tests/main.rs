//! Stores, loader and statistics through the public interface.

mod faults;
mod flat;
mod loader;
mod native;
mod planted;
mod processes;
mod properties;
mod support;
mod views;

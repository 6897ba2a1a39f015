//! Stores, loader and statistics through the public interface.

mod loader;
mod native;
mod properties;
mod support;

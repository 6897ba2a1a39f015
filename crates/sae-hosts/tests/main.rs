//! Tests of host models through the public interface.

mod gguf;
mod golden_families;
mod harvest;
mod smollm2;
mod support;

//! Tests of host models through the public interface.

mod folder;
mod gguf;
mod gguf_builder;
mod gguf_hosts;
mod gguf_keys;
mod gguf_tokenizers;
mod golden_families;
mod harvest;
mod images;
mod policies;
mod smollm2;
mod support;
mod tokenizer_folders;
mod unknown;
mod variants;
mod vit;

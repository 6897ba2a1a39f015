//! Tests of host models through the public interface.

mod chats;
mod contexts;
mod corpora;
mod folder;
mod gguf;
mod gguf_builder;
mod gguf_hosts;
mod gguf_keys;
mod gguf_tokenizers;
mod golden_families;
mod harvest;
mod hooks;
mod images;
mod live;
mod past;
mod policies;
mod several_hooks;
mod smollm2;
mod support;
mod tokenizer_folders;
mod unknown;
mod variants;
mod vit;

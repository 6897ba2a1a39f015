//! Any bytes beside a `tokenizer.json` are either read, or an error.
//!
//! The first byte says which file the others are.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sae_hosts::HostTokenizer;

const FILES: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

/// A tokenizer of four tokens.
const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[
    {"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,
    "special":true}],"normalizer":{"type":"Lowercase"},"pre_tokenizer":null,"post_processor":null,
    "decoder":null,"model":{"type":"BPE","vocab":{"<s>":0,"a":1,"b":2,"ab":3},"merges":["a b"]}}"#;

/// The folder of this process, with the tokenizer.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let name = format!("sae-hosts-fuzz-tokenizer-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tokenizer.json"), TOKENIZER).unwrap();
        folder
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let path = folder().join(FILES[usize::from(*which) % FILES.len()]);
    std::fs::write(&path, bytes).unwrap();
    if let Ok(tokenizer) = HostTokenizer::read(&folder().join("tokenizer.json")) {
        let ids = tokenizer.encode("ab <s>a").unwrap();
        assert!(ids.iter().all(|id| tokenizer.token(*id).is_some()));
    }
    std::fs::remove_file(&path).unwrap();
});

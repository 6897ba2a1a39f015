//! Any bytes as a file of a corpus are either documents, read to the end, or an error; where damage is
//! left out, reading goes on to the end too, and from each place on as from the start.
//!
//! The first two bytes say which format they are in, and how they are read.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sae_config::{ChatConfig, CorpusConfig, Damaged, ShuffleConfig, TokenType};
use sae_hosts::HostTokenizer;
use sae_hosts::corpus::{self, Document};

const NAMES: [&str; 9] = [
    "a.jsonl",
    "a.jsonl.gz",
    "a.jsonl.zst",
    "a.parquet",
    "a.npy",
    "a.bin",
    "a.txt",
    "chats.jsonl",
    "chats.parquet",
];

/// A tokenizer of four tokens that writes chats out.
const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[
    {"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,
    "special":true}],"normalizer":null,"pre_tokenizer":null,"post_processor":null,
    "decoder":null,"model":{"type":"BPE","vocab":{"<s>":0,"a":1,"b":2,"ab":3},"merges":["a b"]}}"#;
const SETTINGS: &str = r#"{"eos_token": "<s>",
    "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"}"#;

/// The folder of this process, and its tokenizer.
fn place() -> &'static (PathBuf, HostTokenizer) {
    static PLACE: OnceLock<(PathBuf, HostTokenizer)> = OnceLock::new();
    PLACE.get_or_init(|| {
        let name = format!("sae-hosts-fuzz-corpus-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tokenizer.json"), TOKENIZER).unwrap();
        std::fs::write(folder.join("tokenizer_config.json"), SETTINGS).unwrap();
        let tokenizer = HostTokenizer::read(&folder.join("tokenizer.json")).unwrap();
        (folder, tokenizer)
    })
}

/// The documents from a place on, as far as they can be read.
fn documents(config: &CorpusConfig, skip: usize) -> Option<Vec<Document>> {
    let mut documents = corpus::open(config, &place().1).ok()?;
    let mut all = Vec::new();
    for _ in 0..skip {
        documents.next().ok()?;
    }
    let position = documents.position();
    documents.resume(&position).ok()?;
    while let Some(document) = documents.next().ok()? {
        all.push(document);
    }
    Some(all)
}

fuzz_target!(|bytes: &[u8]| {
    let [format, how, bytes @ ..] = bytes else { return };
    let name = NAMES[usize::from(*format) % NAMES.len()];
    let path = place().0.join(name);
    std::fs::write(&path, bytes).unwrap();
    let of_chats = name.starts_with("chats");
    let roles = if how & 8 == 0 { vec![] } else { vec!["user".to_owned()] };
    let config = CorpusConfig {
        damaged: if how & 16 == 0 { Damaged::Stop } else { Damaged::Skip },
        shuffle: (how & 32 != 0).then_some(ShuffleConfig { seed: 1, window: 3 }),
        token_type: (name == "a.bin")
            .then_some(if how & 64 == 0 { TokenType::U16 } else { TokenType::U32 }),
        document_end: ["a.bin", "a.npy"].contains(&name).then_some(2),
        field: match name {
            "a.parquet" if how & 128 != 0 => Some("ids".to_owned()),
            "a.jsonl" | "a.jsonl.gz" | "a.jsonl.zst" if how & 128 != 0 => Some("meta.ids".into()),
            _ => None,
        },
        chat: of_chats.then(|| ChatConfig { roles, ..ChatConfig::default() }),
        ..CorpusConfig::new(path.to_str().unwrap())
    };
    if let Some(all) = documents(&config, 0) {
        let rest = documents(&config, all.len() / 2).expect("what was read is read again");
        assert_eq!(rest, all[all.len() / 2..]);
    }
    std::fs::remove_file(&path).unwrap();
});

//! Corpora as other tools write them: documents, order, parts, and what is refused.

mod damaged;
mod settings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sae_config::{CorpusConfig, CorpusFormat, ShuffleConfig, Split, TokenType};
use sae_hosts::HostTokenizer;
use sae_hosts::corpus::{self, Content, Document, DocumentPosition, Documents};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tokenizer_folders::plain;

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/corpora")).join(name)
}

pub(crate) fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(file("expected.json")).unwrap()).unwrap()
}

/// A tokenizer with an end-of-text token, 2, and perhaps a chat template.
pub(crate) fn tokenizer(template: Option<&str>) -> HostTokenizer {
    let folder = TempDir::new().unwrap();
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template});
    let mut files = plain();
    files.insert("tokenizer_config.json".to_owned(), config);
    for (name, content) in &files {
        std::fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    HostTokenizer::read(&folder.path().join("tokenizer.json")).unwrap()
}

pub(crate) fn config(path: &Path) -> CorpusConfig {
    CorpusConfig::new(path.display().to_string())
}

pub(crate) fn open(config: &CorpusConfig) -> Box<dyn Documents> {
    corpus::open(config, &tokenizer(None)).unwrap()
}

fn rest(documents: &mut dyn Documents) -> Result<Vec<Document>, String> {
    let mut all = Vec::new();
    while let Some(document) = documents.next().map_err(|error| error.to_string())? {
        all.push(document);
    }
    Ok(all)
}

fn all(config: &CorpusConfig) -> Vec<Document> {
    rest(&mut *open(config)).unwrap()
}

fn contents(documents: &[Document]) -> Vec<Content> {
    documents.iter().map(|document| document.content.clone()).collect()
}

fn texts() -> Vec<Content> {
    let texts: Vec<String> = serde_json::from_value(expected()["texts"].clone()).unwrap();
    texts.into_iter().map(Content::Text).collect()
}

fn ids() -> Vec<Content> {
    let ids: Vec<Vec<u32>> = serde_json::from_value(expected()["ids"].clone()).unwrap();
    ids.into_iter().map(Content::Ids).collect()
}

const CODECS: [&str; 6] = ["none", "snappy", "gzip", "zstd", "brotli", "lz4"];

/// Every corpus of the test data with its field, and what is in it.
fn corpora() -> Vec<(CorpusConfig, Vec<Content>)> {
    let mut corpora = Vec::new();
    let with = |name: &str, field: &str| CorpusConfig {
        field: Some(field.to_owned()),
        ..config(&file(name))
    };
    for codec in CODECS {
        let name = format!("{codec}.parquet");
        for field in ["text", "long", "inner.text"] {
            corpora.push((with(&name, field), texts()));
        }
        for field in ["ids", "wide"] {
            corpora.push((with(&name, field), ids()));
        }
    }
    for ending in ["", ".gz", ".zst"] {
        let name = format!("lines.jsonl{ending}");
        corpora.push((config(&file(&name)), texts()));
        corpora.push((with(&name, "meta.ids"), ids()));
    }
    let stream = |name: &str| CorpusConfig { document_end: Some(99), ..config(&file(name)) };
    for number in ["u2", "u4", "i4", "i8"] {
        corpora.push((stream(&format!("stream-{number}.npy")), ids()));
    }
    for (name, token_type) in [("u2", TokenType::U16), ("u4", TokenType::U32)] {
        let name = format!("stream-{name}.bin");
        corpora.push((CorpusConfig { token_type: Some(token_type), ..stream(&name) }, ids()));
    }
    let rows = (0..6).map(|row| Content::Ids((row * 10..row * 10 + 10).collect())).collect();
    corpora.push((config(&file("rows.npy")), rows));
    corpora
}

#[test]
fn every_format_gives_the_documents_that_were_written() {
    for (config, expected) in corpora() {
        let got = all(&config);
        assert_eq!(contents(&got), expected, "{config:?}");
        let numbers: Vec<u32> = got.iter().map(|document| document.number).collect();
        assert_eq!(numbers, (0..expected.len() as u32).collect::<Vec<_>>());
    }
}

#[test]
fn a_corpus_goes_on_at_every_document_in_order_and_shuffled() {
    for (config, _) in corpora() {
        for shuffle in [None, Some(ShuffleConfig { seed: 5, window: 4 })] {
            let config = CorpusConfig { shuffle, ..config.clone() };
            let whole = all(&config);
            let mut documents = open(&config);
            let mut positions = vec![documents.position()];
            let mut fraction = 0.0;
            while documents.next().unwrap().is_some() {
                positions.push(documents.position());
                assert!(documents.fraction() >= fraction && documents.fraction() <= 1.0);
                fraction = documents.fraction();
            }
            assert!(documents.is_last() && documents.fraction() == 1.0);
            assert_eq!(positions.len(), whole.len() + 1);
            for (n, position) in positions.iter().enumerate() {
                let text = serde_json::to_string(position).unwrap();
                let position: DocumentPosition = serde_json::from_str(&text).unwrap();
                let mut again = open(&config);
                again.resume(&position).unwrap();
                assert_eq!(rest(&mut *again).unwrap(), whole[n..], "{config:?} from {n}");
                // A corpus that is read already goes back too.
                documents.resume(&position).unwrap();
                assert_eq!(documents.position(), position);
            }
            documents.resume(&DocumentPosition::default()).unwrap();
            assert_eq!(rest(&mut *documents).unwrap(), whole);
        }
    }
}

#[test]
fn a_shuffle_is_an_order_that_the_seed_decides() {
    // Three row groups; the window is larger than all, or smaller than one.
    for window in [2, 100] {
        let shuffled = |seed| {
            let shuffle = Some(ShuffleConfig { seed, window });
            contents(&all(&CorpusConfig { shuffle, ..config(&file("zstd.parquet")) }))
        };
        let sorted = |mut contents: Vec<Content>| {
            contents.sort_by_key(|content| format!("{content:?}"));
            contents
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), texts());
        assert_ne!(shuffled(1), shuffled(2));
        assert_eq!(sorted(shuffled(1)), sorted(texts()));
    }
}

#[test]
fn parts_are_disjoint_and_make_the_whole_in_every_format() {
    let part = |config: &CorpusConfig, split| {
        all(&CorpusConfig { split: Some(split), held_out: Some(0.4), ..config.clone() })
    };
    let mut held_texts = BTreeSet::new();
    for (config, expected) in corpora() {
        let (train, held_out) = (part(&config, Split::Train), part(&config, Split::HeldOut));
        assert!(!train.is_empty() && !held_out.is_empty(), "{config:?}");
        // Numbers are those of the whole corpus.
        let mut both = [train.clone(), held_out.clone()].concat();
        both.sort_by_key(|document| document.number);
        assert_eq!(both, all(&config), "{config:?}");
        let contents_of = |part: &[Document]| -> BTreeSet<String> {
            part.iter().map(|document| format!("{:?}", document.content)).collect()
        };
        assert!(contents_of(&train).is_disjoint(&contents_of(&held_out)), "{config:?}");
        if expected == texts() {
            held_texts.insert(contents_of(&held_out));
        }
    }
    // The format does not matter to where a text goes.
    assert_eq!(held_texts.len(), 1);
}

#[test]
fn a_folder_is_read_in_the_order_of_its_names() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (name, text) in [("b.txt", "b"), ("a/2.txt", "a2"), ("a/1.TXT", "a1"), ("c/x.txt", "cx")] {
        write(name, text);
    }
    write("README.md", "no document");
    write(".hidden/x.txt", "no document");
    let texts = |config: &CorpusConfig| -> Vec<String> {
        let text = |document: Document| match document.content {
            Content::Text(text) => text,
            other => panic!("{other:?}"),
        };
        all(config).into_iter().map(text).collect()
    };
    let config = config(folder.path());
    assert_eq!(texts(&config), ["a1", "a2", "b", "cx"]);
    let some = CorpusConfig { files: Some("?/*.txt".to_owned()), ..config.clone() };
    assert_eq!(texts(&some), ["a2", "cx"]);
    // Several paths are one corpus.
    let at = |name: &str| folder.path().join(name).display().to_string();
    let both = CorpusConfig { path: vec![at("c"), at("b.txt")], ..config.clone() };
    assert_eq!(texts(&both), ["cx", "b"]);

    let error = |config: &CorpusConfig| {
        corpus::open(config, &tokenizer(None)).map(|_| ()).unwrap_err().to_string()
    };
    write("d.jsonl", "{\"text\": \"d\"}");
    let mixed = error(&config);
    assert!(mixed.ends_with("(`format` or `files` says which), got 1 jsonl, 4 text"), "{mixed}");
    let one = CorpusConfig { format: Some(CorpusFormat::Jsonl), ..config.clone() };
    assert_eq!(texts(&one), ["d"]);
    write("e/train-0.jsonl", "{\"text\": \"d\"}");
    write("e/validation-0.jsonl", "{\"text\": \"d\"}");
    let splits = error(&one);
    assert!(splits.ends_with("got `e/train-0.jsonl`, `e/validation-0.jsonl`"), "{splits}");
    let none = CorpusConfig { files: Some("*.parquet".to_owned()), ..config };
    let none = error(&none);
    assert!(none.ends_with("expected files of a corpus that fit `*.parquet`, got none"), "{none}");
}

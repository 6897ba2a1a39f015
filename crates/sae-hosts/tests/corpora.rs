//! Corpora as other tools write them: documents, order, parts, and what is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sae_config::{CorpusConfig, CorpusFormat, Damaged, ShuffleConfig, Split, TokenType};
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
            while documents.next().unwrap().is_some() {
                positions.push(documents.position());
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

/// The error of a corpus that stops, and the documents of one that skips, with what it skipped.
fn damaged(config: &CorpusConfig) -> (String, Vec<Content>, u64) {
    let stops = match corpus::open(config, &tokenizer(None)) {
        Ok(mut documents) => rest(&mut *documents).unwrap_err(),
        Err(error) => error.to_string(),
    };
    let skips = CorpusConfig { damaged: Damaged::Skip, ..config.clone() };
    let mut documents = open(&skips);
    let got = contents(&rest(&mut *documents).unwrap());
    let skipped = documents.skipped();
    assert!(skipped.examples.contains(&stops), "{stops}: {skipped:?}");
    (stops, got, skipped.count)
}

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

#[test]
fn damaged_lines_are_named_or_skipped() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.jsonl");
    for (line, words) in [
        ("{\"text\": 3}", "line 2: `text`: expected a text or a list of token ids, got 3"),
        ("{\"text\": null}", "line 2: `text`: expected a text or a list of token ids, got null"),
        ("{\"text\": [1, -2]}", "got -2 in a list"),
        ("{\"text\": [{\"role\": \"user\"}]}", "`chat = {}` reads chats"),
        (
            "{\"body\": \"x\", \"id\": 1}",
            "expected the field `text` (`field` names another), got `body`, `id`",
        ),
        ("[1]", "line 2: content: expected a JSON object, got a list"),
        ("{\"text\": \"x\"", "line 2: content: expected a JSON object"),
        ("{\"text\": \"x\"} {}", "trailing characters"),
    ] {
        std::fs::write(&path, format!("{{\"text\": \"a\"}}\n{line}\n{{\"text\": \"c\"}}")).unwrap();
        let (error, rest, n) = damaged(&config(&path));
        assert!(error.contains(words), "{line}: {error}");
        assert_eq!((rest, n), (vec![text("a"), text("c")], 1));
    }
    std::fs::write(&path, b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n{\"text\": \"c\"}").unwrap();
    assert_eq!(damaged(&config(&path)).1, [text("a"), text("c")]);
}

#[test]
fn damaged_files_are_named_or_skipped() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Cut off: what comes before is read, and the other file.
    for ending in ["gz", "zst"] {
        let name = format!("lines.jsonl.{ending}");
        let bytes = std::fs::read(file(&name)).unwrap();
        std::fs::write(at(&format!("a.jsonl.{ending}")), &bytes[..bytes.len() - 20]).unwrap();
        std::fs::write(at("b.jsonl"), "{\"text\": \"last\"}\n").unwrap();
        let (error, rest, n) = damaged(&config(folder.path()));
        assert!(error.contains(&format!("a.jsonl.{ending}: line ")), "{error}");
        assert_eq!((rest.last(), n), (Some(&text("last")), 1));
        assert!(rest.len() > 5);
        std::fs::remove_file(at(&format!("a.jsonl.{ending}"))).unwrap();
    }
    std::fs::write(at("a.jsonl"), "\n").unwrap();
    let (error, rest, n) = damaged(&config(folder.path()));
    assert!(error.ends_with("a.jsonl: content: expected documents, got none"), "{error}");
    assert_eq!((rest, n), (vec![text("last")], 1));

    let whole = std::fs::read(file("none.parquet")).unwrap();
    let needle = b"Document 12";
    let in_text = whole.windows(needle.len()).position(|window| window == needle).unwrap();
    let mut flipped = whole.clone();
    flipped[in_text] ^= 1;
    let parquet = at("parquet");
    std::fs::create_dir(&parquet).unwrap();
    for (bytes, n_left) in [(flipped, 14), (whole[..whole.len() - 1].to_vec(), 0)] {
        std::fs::write(parquet.join("a.parquet"), bytes).unwrap();
        std::fs::copy(file("snappy.parquet"), parquet.join("b.parquet")).unwrap();
        let (error, rest, n) = damaged(&config(&parquet));
        assert!(error.contains("a.parquet: "), "{error}");
        assert!(error.contains("expected a whole Parquet file"), "{error}");
        assert_eq!(n, 1);
        let expected = texts();
        let (left, other) = rest.split_at(rest.len() - expected.len());
        assert_eq!(other, expected);
        // The first and the last row group, and of the damaged one what comes before.
        assert!(left.len() >= n_left && left.iter().all(|content| expected.contains(content)));
    }
    let (error, rest, n) = damaged(&{
        std::fs::copy(file("empty.parquet"), parquet.join("a.parquet")).unwrap();
        config(&parquet)
    });
    assert!(error.ends_with("a.parquet: content: expected documents, got none"), "{error}");
    assert_eq!((rest, n), (texts(), 1));
}

#[test]
fn rows_that_hold_no_document_are_named_or_skipped() {
    let column = |field: &str| {
        let field = Some(field.to_owned());
        damaged(&CorpusConfig { field, ..config(&file("holes.parquet")) })
    };
    let (error, rest, n) = column("text");
    assert!(error.ends_with("row 1 of row group 0: expected a text, got null"), "{error}");
    assert_eq!((rest, n), (vec![text("a"), text("c")], 1));
    let (error, ..) = column("bytes");
    assert!(error.ends_with("expected UTF-8 text, got an invalid byte at offset 1"), "{error}");
    let expected = "row 1 of row group 0: expected a list of token ids of 32 bits, got ";
    let (error, rest, _) = column("ids");
    assert!(error.ends_with(&format!("{expected}null")), "{error}");
    assert_eq!(rest, [Content::Ids(vec![1, 2]), Content::Ids(vec![3])]);
    let (error, rest, _) = column("nulls");
    assert!(error.ends_with(&format!("{expected}null")), "{error}");
    assert_eq!(rest, [Content::Ids(vec![1]), Content::Ids(vec![])]);
    let (error, rest, n) = column("large");
    assert!(error.ends_with(&format!("{expected}{}", 1_u64 << 40)), "{error}");
    assert_eq!((rest, n), (vec![Content::Ids(vec![1])], 2));
}

#[test]
fn settings_that_do_not_fit_the_files_are_refused() {
    let error = |config: CorpusConfig| {
        let opened = corpus::open(&config, &tokenizer(None));
        match opened {
            Ok(mut documents) => rest(&mut *documents).unwrap_err(),
            Err(error) => error.to_string(),
        }
    };
    let with_field = |name: &str, field: &str| CorpusConfig {
        field: Some(field.to_owned()),
        damaged: Damaged::Skip,
        ..config(&file(name))
    };
    // A column that is not there is no damage to be skipped.
    let message = error(with_field("zstd.parquet", "body"));
    assert!(
        message
            .contains("expected the column `body` (`field` names another), got `number`, `text`"),
        "{message}"
    );
    let message = error(with_field("zstd.parquet", "messages"));
    assert!(
        message.contains("got a column of several parts (`chat = {}` reads chats)"),
        "{message}"
    );
    let message = error(with_field("zstd.parquet", "score"));
    assert!(message.ends_with("expected texts or lists of token ids, got DOUBLE"), "{message}");
    for (name, words) in [
        ("stream-big.npy", "got '>u2'"),
        ("stream-float.npy", "got '<f4'"),
        ("stream-u2.bin", "expected `token_type` u16 or u32"),
        ("gone.parquet", "gone.parquet: No such file"),
        ("make.pdf", "make.pdf: No such file"),
    ] {
        let message = error(config(&file(name)));
        assert!(message.contains(words), "{name}: {message}");
    }
    let wide = CorpusConfig { token_type: Some(TokenType::U32), ..config(&file("stream-u2.bin")) };
    let n_bytes = std::fs::metadata(file("stream-u2.bin")).unwrap().len();
    if !n_bytes.is_multiple_of(4) {
        assert!(error(wide).ends_with(&format!("expected a multiple of 4 bytes, got {n_bytes}")));
    }
    for (config, key) in [
        (
            CorpusConfig { token_type: Some(TokenType::U16), ..config(&file("rows.npy")) },
            "token_type",
        ),
        (CorpusConfig { document_end: Some(1), ..config(&file("lines.jsonl")) }, "document_end"),
        (CorpusConfig { field: Some("x".to_owned()), ..config(&file("rows.npy")) }, "field"),
        (CorpusConfig { chat: Some(Default::default()), ..config(&file("rows.npy")) }, "chat"),
    ] {
        let message = error(config);
        assert!(message.starts_with(&format!("{key}: expected files of ")), "{message}");
    }
}

#[test]
fn a_corpus_is_known_by_its_files_and_settings() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::copy(file("lines.jsonl"), &path).unwrap();
    let base = config(&path);
    let mut seen = BTreeSet::from([open(&base).identity()]);
    for other in [
        CorpusConfig { field: Some("meta.ids".to_owned()), ..base.clone() },
        CorpusConfig { split: Some(Split::Train), ..base.clone() },
        CorpusConfig { split: Some(Split::HeldOut), ..base.clone() },
        CorpusConfig { split: Some(Split::Train), held_out: Some(0.1), ..base.clone() },
        CorpusConfig { shuffle: Some(ShuffleConfig { seed: 0, window: 9 }), ..base.clone() },
        CorpusConfig { shuffle: Some(ShuffleConfig { seed: 1, window: 9 }), ..base.clone() },
        CorpusConfig { damaged: Damaged::Skip, ..base.clone() },
    ] {
        assert!(seen.insert(open(&other).identity()), "{other:?}");
    }
    // Elsewhere the same files are the same corpus; other bytes of the same number are another.
    let elsewhere = TempDir::new().unwrap();
    let copy = elsewhere.path().join("a.jsonl");
    let mut bytes = std::fs::read(&path).unwrap();
    std::fs::write(&copy, &bytes).unwrap();
    assert_eq!(open(&config(&copy)).identity(), open(&base).identity());
    let last = bytes.iter().rposition(|byte| *byte == b'n').unwrap();
    bytes[last] = b'm';
    std::fs::write(&copy, &bytes).unwrap();
    assert!(seen.insert(open(&config(&copy)).identity()));
}

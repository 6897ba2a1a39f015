//! Damaged files, lines and rows.

use sae_config::{CorpusConfig, Damaged};
use sae_hosts::corpus::{self, Content, DocumentPosition};
use tempfile::TempDir;

use super::{config, contents, file, open, rest, texts, tokenizer};

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
fn lines_behind_a_damaged_one_keep_their_places() {
    // As long as a document is at most where nothing ends it.
    let (n_lines, length) = (3, 1 << 20);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.npy");
    let header = format!(
        "{:<117}\n",
        format!("{{'descr': '<i4', 'fortran_order': False, 'shape': ({n_lines}, {length}), }}")
    );
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(header.as_bytes());
    let numbers = (0..n_lines).flat_map(|line| {
        (0..length).map(move |at| if (line, at) == (1, 5) { -1 } else { 10 * line + at % 7 })
    });
    bytes.extend(numbers.flat_map(i32::to_le_bytes));
    std::fs::write(&path, bytes).unwrap();
    let (error, rest, n) = damaged(&config(&path));
    let place = format!("number {}", length + 5);
    assert!(
        error.ends_with(&format!("{place}: expected a token id of 32 bits, got -1")),
        "{error}"
    );
    let line = |line: u32| Content::Ids((0..length as u32).map(|at| 10 * line + at % 7).collect());
    assert!(rest == [line(0), line(2)], "{} documents", rest.len());
    assert_eq!(n, 1);
}

#[test]
fn after_an_error_there_is_no_end() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\": \"a\"}\n{}\n{\"text\": \"c\"}\n").unwrap();
    let mut documents = open(&config(&path));
    documents.next().unwrap();
    assert!(documents.next().is_err() && documents.next().is_err());
    documents.resume(&DocumentPosition::default()).unwrap();
    assert_eq!(documents.next().unwrap().unwrap().content, text("a"));
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

//! Settings that do not fit the files, and the identity of a corpus.

use std::collections::BTreeSet;

use sae_config::{CorpusConfig, Damaged, ShuffleConfig, Split, TokenType};
use sae_hosts::corpus;
use tempfile::TempDir;

use super::{config, file, open, rest, tokenizer};

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

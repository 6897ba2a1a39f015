//! The file of answers: one a line, by a hash of what was asked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// A hash of the model and of what it was asked.
    pub(crate) key: String,
    /// The model.
    pub(crate) model: String,
    /// The feature that it is about.
    pub(crate) feature: u32,
    /// Whether it is an answer to what was asked; if not, it is asked for again.
    pub(crate) readable: bool,
    /// Tokens of prompt and answer.
    pub(crate) tokens: u64,
    /// The answer.
    pub(crate) answer: String,
}

/// Answers that are kept from one process to the next.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// Bytes of whole lines.
    length: u64,
    answers: HashMap<String, String>,
}

impl Journal {
    /// Reads the answers of a file, which is made if it is not there; gives how many there are and
    /// their tokens. A line without an end, which a killed process has left, is removed.
    pub(crate) fn open(path: &Path) -> Result<(Self, u64, u64)> {
        let options = File::options().create(true).read(true).append(true).open(path);
        let mut file = options.map_err(io(path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io(path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (mut answers, mut n_entries, mut tokens) = (HashMap::new(), 0, 0_u64);
        for (line, bytes) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let entry: Entry = serde_json::from_slice(bytes).map_err(|error| Error::Journal {
                path: path.to_owned(),
                line: line + 1,
                got: error.to_string(),
            })?;
            (n_entries, tokens) = (n_entries + 1, tokens.saturating_add(entry.tokens));
            if entry.readable {
                answers.insert(entry.key, entry.answer);
            }
        }
        if bytes.is_empty() {
            // The name of a new file is to be on the disk before its answers count.
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            let folder = folder.unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))?;
        }
        // Not before it is known that the file is one of answers.
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(io(path))?;
        }
        let inner = Mutex::new(Inner { file, length: whole as u64, answers });
        Ok((Self { path: path.to_owned(), inner }, n_entries, tokens))
    }

    /// The answer to what has this key.
    pub(crate) fn find(&self, key: &str) -> Option<String> {
        self.inner.lock().expect("no holder panics").answers.get(key).cloned()
    }

    /// Keeps an answer; it is on the disk then.
    pub(crate) fn add(&self, entry: Entry) -> Result<()> {
        let mut line = serde_json::to_vec(&entry).expect("strings and numbers are valid JSON");
        line.push(b'\n');
        let inner = &mut *self.inner.lock().expect("no holder panics");
        let written = inner.file.write_all(&line).and_then(|()| inner.file.sync_data());
        if let Err(error) = written {
            // Half a line would spoil the one that another thread adds.
            inner.file.set_len(inner.length).map_err(io(&self.path))?;
            return Err(io(&self.path)(error));
        }
        inner.length += line.len() as u64;
        if entry.readable {
            inner.answers.insert(entry.key, entry.answer);
        }
        Ok(())
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error {
    |source| Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, readable: bool) -> Entry {
        let text = |text: &str| text.to_owned();
        Entry {
            key: text(key),
            model: text("m"),
            feature: 7,
            readable,
            tokens: 5,
            answer: format!("answer\n\u{2028} to {key}"),
        }
    }

    #[test]
    fn answers_outlive_the_process_whatever_it_was_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        let (journal, n, tokens) = Journal::open(&path).unwrap();
        assert_eq!((n, tokens), (0, 0));
        journal.add(entry("a", true)).unwrap();
        journal.add(entry("b", false)).unwrap();
        assert_eq!((journal.find("a"), journal.find("b")), (Some(entry("a", true).answer), None));
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (journal, n, tokens) = Journal::open(&path).unwrap();
            let expected = u64::from(length >= line) + u64::from(length == whole.len());
            assert_eq!((n, tokens), (expected, 5 * expected));
            assert_eq!(journal.find("a").is_some(), length >= line);
            journal.add(entry("c", true)).unwrap();
            drop(journal);
            let (journal, n, _) = Journal::open(&path).unwrap();
            assert_eq!((n, journal.find("c").is_some()), (expected + 1, true));
        }
    }

    #[test]
    fn another_file_is_refused_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        let (journal, ..) = Journal::open(&path).unwrap();
        journal.add(entry("a", true)).unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"key\": 3}\n");
        std::fs::write(&path, &text).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(matches!(error, Error::Journal { line: 2, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "it stays as it is");
    }
}

//! Texts to harvest from.

use std::path::Path;

use crate::{Error, Result};

/// Kinds of files that hold texts in a form that has to be taken apart first, by their endings.
const CONTAINERS: [&str; 15] = [
    "arrow", "bz2", "csv", "feather", "gz", "json", "jsonl", "ndjson", "npy", "parquet", "pdf",
    "tsv", "xz", "zip", "zst",
];

/// A document: contexts never reach from one into the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it came from, for people.
    pub name: String,
    /// What it says.
    pub content: String,
}

impl Text {
    /// Reads a UTF-8 text file as one document. A byte-order mark at its front is left out; line
    /// ends stay as they are.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::NotUtf8`] with the offset of the first bad
    /// byte; [`Error::File`] if it is empty, in UTF-16 or UTF-32, or by its name a table, an
    /// archive or a compressed file.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |field: &str, got: &str| Error::file(path, field, "plain UTF-8 text", got);
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if CONTAINERS.contains(&ending.as_str()) {
            let got = format!("`.{ending}`; write the texts that it holds into text files");
            return Err(wrong("name", &got));
        }
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        match bytes[..] {
            [] => return Err(wrong("content", "nothing")),
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
                return Err(wrong("content", "a byte-order mark of UTF-32"));
            }
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(wrong("content", "a byte-order mark of UTF-16"));
            }
            _ => {}
        }
        if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
            return Err(wrong("content", &format!("a zero byte at offset {offset}")));
        }
        let mut content = String::from_utf8(bytes).map_err(|error| Error::NotUtf8 {
            path: path.to_path_buf(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        if content.starts_with('\u{feff}') {
            content.drain(..'\u{feff}'.len_utf8());
        }
        Ok(Self { name: path.display().to_string(), content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Text::read(&path).map(|text| text.content).map_err(|error| {
            let text = error.to_string();
            text.strip_prefix(&format!("{}: ", path.display())).expect("the path").to_owned()
        })
    }

    #[test]
    fn a_text_is_what_it_says() {
        assert_eq!(read("a.txt", b"\xef\xbb\xbfone\r\ntwo\n").unwrap(), "one\r\ntwo\n");
        assert_eq!(read("a", "a \u{feff}b".as_bytes()).unwrap(), "a \u{feff}b");
    }

    #[test]
    fn what_is_no_utf8_text_is_named() {
        let expected = |field: &str| format!("{field}: expected plain UTF-8 text, got");
        for (bytes, got) in [
            (b"".as_slice(), "nothing"),
            (b"\xff\xfea\0", "a byte-order mark of UTF-16"),
            (b"\xfe\xff\0a", "a byte-order mark of UTF-16"),
            (b"\xff\xfe\0\0a\0\0\0", "a byte-order mark of UTF-32"),
            (b"\0\0\xfe\xff\0\0\0a", "a byte-order mark of UTF-32"),
            (b"a\0b\0", "a zero byte at offset 1"),
        ] {
            assert_eq!(read("a.txt", bytes), Err(format!("{} {got}", expected("content"))));
        }
        let invalid = read("a.txt", b"caf\xe9").unwrap_err();
        assert_eq!(invalid, "expected UTF-8 text, got an invalid byte at offset 3");
        for ending in CONTAINERS {
            for ending in [ending.to_owned(), ending.to_uppercase()] {
                let error = read(&format!("a.{ending}"), b"{}").unwrap_err();
                assert!(error.starts_with(&expected("name")), "{error}");
            }
        }
    }
}

//! JSON lines, plain or compressed by gzip or Zstandard.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::json::{self, Json};
use super::record::{Record, Records, at_record};
use crate::{Error, Result};

/// Bytes of a line at most: a file without line feeds is no file of JSON lines.
const MAX_LINE: u64 = 256 << 20;

/// The lines of a file, each an object with the document in a field.
pub(super) struct JsonLines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    /// Bytes read of the file, and all of them.
    n_read: Arc<AtomicU64>,
    n_bytes: u64,
    field: String,
    is_chat: bool,
    line: Vec<u8>,
    n_lines: u64,
}

impl std::fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonLines").field("path", &self.path).finish_non_exhaustive()
    }
}

impl JsonLines {
    /// Opens a file behind its first `skip` documents.
    pub(super) fn open(path: &Path, field: &str, is_chat: bool, skip: u64) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let n_bytes = file.metadata().map_err(Error::io(path))?.len();
        let n_read = Arc::new(AtomicU64::new(0));
        let counting = Counting { inner: file, n_read: Arc::clone(&n_read) };
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let reader: Box<dyn BufRead + Send> = match ending.as_str() {
            "gz" => Box::new(BufReader::with_capacity(
                1 << 18,
                flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, counting)),
            )),
            "zst" => {
                let decoder = zstd::Decoder::new(counting).map_err(Error::io(path))?;
                Box::new(BufReader::with_capacity(1 << 18, decoder))
            }
            _ => Box::new(BufReader::with_capacity(1 << 18, counting)),
        };
        let (line, field) = (Vec::new(), field.to_owned());
        let path = path.to_path_buf();
        let mut this = Self { path, reader, n_read, n_bytes, field, is_chat, line, n_lines: 0 };
        for _ in 0..skip {
            if !this.read_line()? {
                return Err(Error::file(&this.path, "lines", format!("more than {skip}"), "fewer"));
            }
        }
        Ok(this)
    }

    /// Reads the next line that is not blank; false at the end.
    fn read_line(&mut self) -> Result<bool> {
        loop {
            self.line.clear();
            let mut limited = (&mut self.reader).take(MAX_LINE + 1);
            let read = limited.read_until(b'\n', &mut self.line);
            let n =
                read.map_err(|error| self.at_line("content", "bytes that can be read", error))?;
            if n == 0 {
                return Ok(false);
            }
            self.n_lines += 1;
            if n as u64 > MAX_LINE {
                return Err(self.at_line("length", "at most 256 MiB", "more"));
            }
            if self.n_lines == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn at_line(
        &self,
        what: &str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Error {
        let line = self.n_lines.max(1);
        at_record(&self.path, format!("line {line}: {what}"), expected, got)
    }

    fn parse(&self) -> Result<Record> {
        let line: Json = serde_json::from_slice(&self.line)
            .map_err(|error| self.at_line("content", "a JSON object", error))?;
        let value = self.find(line)?;
        let expected = Record::expected(self.is_chat);
        Record::from_json(value, self.is_chat)
            .map_err(|got| self.at_line(&format!("`{}`", self.field), expected, got))
    }

    /// The value of the field, whose name may hold dots, or be within objects.
    fn find(&self, mut value: Json) -> Result<Json> {
        let mut rest = self.field.as_str();
        loop {
            let Json::Object(mut object) = value else {
                return Err(self.at_line("content", "a JSON object", value.brief()));
            };
            let mut take = |key: &str| {
                let at = object.iter().position(|(name, _)| name == key)?;
                Some(object.swap_remove(at).1)
            };
            if let Some(value) = take(rest) {
                return Ok(value);
            }
            let (first, left) = rest.split_once('.').unwrap_or((rest, ""));
            match take(first) {
                Some(inner @ Json::Object(_)) if !left.is_empty() => (value, rest) = (inner, left),
                _ => {
                    let expected = format!("the field `{rest}` (`field` names another)");
                    return Err(self.at_line("fields", expected, json::keys(&object)));
                }
            }
        }
    }
}

impl Records for JsonLines {
    fn next(&mut self) -> Result<Option<Result<Record>>> {
        Ok(if self.read_line()? { Some(self.parse()) } else { None })
    }

    fn fraction(&self) -> f64 {
        self.n_read.load(Ordering::Relaxed) as f64 / self.n_bytes.max(1) as f64
    }
}

/// A reader that counts.
struct Counting {
    inner: File,
    n_read: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.n_read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

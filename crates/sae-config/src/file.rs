//! Reading and atomically writing TOML and JSON files.

use std::io::Write as _;
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
use serde::{Serialize, de::DeserializeOwned};

use crate::unique::Unique;
use crate::{Error, Result};

/// Reads a TOML file into `T`.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parse`], naming the file.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T> {
    toml::from_str(&read(path)?).map_err(|e| parse(path, &e))
}

/// Reads a JSON file into `T`.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parse`], naming the file; an object with a key twice is refused, wherever
/// it is.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    json_from_slice(read(path)?.as_bytes()).map_err(|e| parse(path, &e))
}

/// Parses JSON into `T`, which may keep values of any shape.
///
/// # Errors
/// Those of `serde_json`; an object with a key twice is refused, wherever it is.
pub fn json_from_slice<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let Unique = serde_json::from_slice(bytes)?;
    serde_json::from_slice(bytes)
}

/// Writes `value` as TOML: to a temporary file, synced, then renamed.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parse`], naming the file.
pub fn write_toml<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_text(path, &toml::to_string_pretty(value).map_err(|e| parse(path, &e))?)
}

/// Writes `value` as indented JSON: to a temporary file, synced, then renamed.
///
/// # Errors
/// [`Error::Io`] or [`Error::Parse`], naming the file.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| parse(path, &e))?;
    write_text(path, &(text + "\n"))
}

/// Writes a text: to a temporary file, synced, then renamed. A new file is readable by whom the
/// umask lets read it.
///
/// # Errors
/// [`Error::Io`], naming the file.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    let mut file = AtomicWriteFile::open(path).map_err(|e| io(path, e))?;
    file.write_all(text.as_bytes()).map_err(|e| io(path, e))?;
    file.commit().map_err(|e| io(path, e))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => parse(path, &"expected text in UTF-8"),
        _ => io(path, e),
    })
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

fn parse(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Parse { path: path.to_owned(), message: error.to_string() }
}

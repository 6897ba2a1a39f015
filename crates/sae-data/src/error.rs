//! The one error type of the crate: each variant names the file or field, what was expected and what came.

use std::path::{Path, PathBuf};

/// What can go wrong with a store or a loader.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// A file is not what its place or name says.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: String,
        /// What it holds.
        got: String,
    },
    /// A folder holds a store that was begun with other settings or of other inputs.
    #[error(
        "{}: expected {expected}, got {got}, of a store that was begun otherwise: remove it, or name \
         another folder",
        path.display()
    )]
    OtherStore {
        /// The store's manifest.
        path: PathBuf,
        /// The setting, and what it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A file is shorter or longer than its header says.
    #[error("{}: expected {expected} bytes, got {got}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes its header asks for.
        expected: u64,
        /// Bytes it has.
        got: u64,
    },
    /// A file was changed after the store was opened.
    #[error("{}: changed since it was opened: expected {expected}, got {got}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its length and time of modification when it was opened.
        expected: String,
        /// The same now.
        got: String,
    },
    /// A file or row does not have the checksum it was written with.
    #[error("{}: {item}: checksum mismatch: expected {expected}, got {got}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The damaged part: a row or the whole file.
        item: String,
        /// The checksum it was written with.
        expected: String,
        /// The checksum of what is there.
        got: String,
    },
    /// An activation is NaN or infinite.
    #[error("{}: row {row}, column {column}: expected a finite value, got {got}", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The row within the file, from 0.
        row: u64,
        /// The dimension, from 0.
        column: usize,
        /// The value.
        got: f32,
    },
    /// A value that an element type makes infinite, or one of a row that it makes all zeros.
    #[error("{}: row {row}, column {column}: expected {expected}, got {got:e}", path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// The row within the file, from 0.
        row: u64,
        /// The dimension, from 0.
        column: usize,
        /// What the element type can hold.
        expected: String,
        /// The value.
        got: f64,
    },
    /// A row too large for its norm to be measured.
    #[error("{}: row {row}: expected {expected}, got {got:e}", path.display())]
    Norm {
        /// The file.
        path: PathBuf,
        /// The row within the file, from 0.
        row: u64,
        /// The largest norm.
        expected: String,
        /// The norm.
        got: f64,
    },
    /// A store whose writing was never finished.
    #[error("{}: expected a finished store, got one cut off after {n_rows} rows", path.display())]
    Incomplete {
        /// The store.
        path: PathBuf,
        /// Rows in its whole shards.
        n_rows: u64,
    },
    /// Another process is writing there.
    #[error("{}: expected no other writer, got a place that another process is writing to", path.display())]
    Locked {
        /// The store, folder or file.
        path: PathBuf,
    },
    /// The store keeps no token, document and position of its rows.
    #[error("{}: expected token, document and position of each row, got activations only", path.display())]
    NoMetadata {
        /// The store.
        path: PathBuf,
    },
    /// Rows outside the store were asked for.
    #[error("rows {start}..{end}: expected at most {n_rows} rows")]
    OutOfRange {
        /// First row asked for.
        start: u64,
        /// One past the last row asked for.
        end: u64,
        /// Rows in the store.
        n_rows: u64,
    },
    /// An argument, setting or field has a value it cannot have.
    #[error("{field}: expected {expected}, got {got}")]
    Value {
        /// The argument or field.
        field: String,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A source of batches was asked for more after it had failed.
    #[error("loader: expected to go on, got a loader that stopped at an earlier error")]
    Stopped,
    /// What a source of batches reads beside stores could not be had.
    #[error("{0}")]
    Source(Box<dyn std::error::Error + Send + Sync>),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: &Path, expected: impl ToString, got: impl ToString) -> Self {
        Self::Format { path: path.to_owned(), expected: expected.to_string(), got: got.to_string() }
    }

    pub(crate) fn value(field: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Value {
            field: field.to_string(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }
}

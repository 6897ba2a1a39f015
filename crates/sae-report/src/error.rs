//! What can be wrong with the files a report is made from.

use std::path::PathBuf;

/// The result of reading or writing a report.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A report that cannot be made; the message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `results.json` cannot be read, or is not what it should be.
    #[error(transparent)]
    Results(#[from] sae_config::Error),
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// The place of the data of feature pages is taken by something else.
    #[error("{path}: expected data of feature pages or nothing, got a folder without `index.js`", path = path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Data of feature pages are not what they should be.
    #[error("{path}: expected {expected}, got {got}", path = path.display())]
    Pages {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// Feature pages lack what another tool's files need, or a name is none for it.
    #[error("{what}: expected {expected}, got {got}")]
    Export {
        /// The option or the pages.
        what: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A line of a metrics file is no JSON object.
    #[error("{path}, line {line}: expected a JSON object, got {got}", path = path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        got: String,
    },
}

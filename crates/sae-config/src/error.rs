//! What can be wrong with a configuration file.

use std::path::PathBuf;

/// The result of reading, checking or writing configuration.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A configuration that cannot be used; the message names the file or key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// The file is not what its type expects: bad syntax, an unknown key, a wrong type.
    #[error("{path}: {message}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        message: String,
    },
    /// A value is out of its range or contradicts another.
    #[error("`{key}`: expected {expected}, got {got}")]
    Value {
        /// The dotted key, such as `architecture.k`.
        key: String,
        /// What would have been accepted.
        expected: String,
        /// What the file says.
        got: String,
    },
    /// A run made by a sweep is no valid run file: an unknown key, a wrong type.
    #[error("{message}")]
    Setting {
        /// What the parser said, with the key.
        message: String,
    },
    /// An error in one run of a sweep.
    #[error("run `{run}`: {source}")]
    InRun {
        /// What sets the run apart.
        run: String,
        /// What is wrong in it.
        r#source: Box<Error>,
    },
    /// An error found in a known file.
    #[error("{path}: {source}", path = path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        r#source: Box<Error>,
    },
}

impl Error {
    /// A value error for `key`.
    pub fn value(
        key: impl Into<String>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::Value { key: key.into(), expected: expected.into(), got: got.to_string() }
    }

    /// The same error, naming the file in which it was found.
    #[must_use]
    pub fn in_file(self, path: impl Into<PathBuf>) -> Self {
        match self {
            Self::Value { .. } | Self::Setting { .. } | Self::InRun { .. } => {
                Self::InFile { path: path.into(), source: Box::new(self) }
            }
            named => named,
        }
    }
}

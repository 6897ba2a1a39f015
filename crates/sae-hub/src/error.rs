//! What can go wrong with the hub.

use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Files that cannot be had; the message names the repository, file or address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A reference that cannot be read.
    #[error("`{text}`: expected `hf:owner/name`, with `/path` and `@revision` if wanted")]
    Reference {
        /// What was given.
        text: String,
    },
    /// The system could not read or write a file of the cache.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// Too little space for the cache.
    #[error(
        "{path}: expected {needed} bytes of free space for the files, got {free} \
         (`HF_HUB_CACHE` names another place)", path = path.display()
    )]
    Space {
        /// The cache.
        path: PathBuf,
        /// Bytes that are missing.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The repository may not be read with this token, or with none.
    #[error(
        "{what}: expected a token that may read it (`HF_TOKEN`, or the file `token` in `HF_HOME`), \
         got {got}"
    )]
    Access {
        /// The repository or file.
        what: String,
        /// The token that was sent, in words, and the answer.
        got: String,
    },
    /// There is no such repository, revision or file.
    #[error("{what}: not found (a private one wants a token in `HF_TOKEN`)")]
    NotFound {
        /// The repository, revision or file.
        what: String,
    },
    /// The address of the hub is none.
    #[error("`{endpoint}`: expected an address of http or https in `HF_ENDPOINT`, got {got}")]
    Endpoint {
        /// The address.
        endpoint: String,
        /// What is wrong with it.
        got: String,
    },
    /// The hub cannot be reached or does not answer as it should.
    #[error("{what}: {got}, {attempts} times (`--offline` uses what the cache has)")]
    Unreachable {
        /// The repository or file.
        what: String,
        /// The last answer.
        got: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// An answer or file that is not as the hub describes it.
    #[error("{what}: {field}: expected {expected}, got {got}")]
    Answer {
        /// The repository or file.
        what: String,
        /// The part of the answer.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// Something that is not in the cache, offline.
    #[error("{what}: not in the cache {path}, and offline", path = path.display())]
    Offline {
        /// The repository, revision or file.
        what: String,
        /// The cache.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn answer(
        what: impl Into<String>,
        field: &'static str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Self {
        let (expected, got) = (expected.to_string(), got.to_string());
        Self::Answer { what: what.into(), field, expected, got }
    }
}

//! What can go wrong with a host model, its files and its inputs.

use std::path::{Path, PathBuf};

use crate::HookPoint;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A host that cannot be loaded or run; the message names the file or field.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system could not open or read a file.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// A file is truncated, corrupt, or describes what this crate does not support.
    #[error("{path}: {field}: expected {expected}, got {got}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The key, tensor or part of it.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// What the file holds.
        got: String,
    },
    /// A text file is not UTF-8.
    #[error("{path}: expected UTF-8 text, got an invalid byte at offset {offset}", path = path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is not UTF-8.
        offset: usize,
    },
    /// A hook point that cannot be read.
    #[error(
        "hook point: expected `embed`, or `resid_pre.L`, `resid_post.L`, `attn_out.L`, `mlp_in.L` or \
         `mlp_out.L` (or `blocks.L.hook_resid_post` and so on) with L a layer, got `{text}`"
    )]
    HookSyntax {
        /// What was given.
        text: String,
    },
    /// A hook point of TransformerLens that this crate does not have, or means otherwise.
    #[error("hook point `{text}`: {reason}")]
    HookName {
        /// What was given.
        text: String,
        /// Why it is refused, and what there is instead.
        reason: String,
    },
    /// A hook point whose layer the host does not have.
    #[error("hook point `{hook}`: expected a layer from 0 to {last}, got {got}", got = hook.layer)]
    HookLayer {
        /// The hook point.
        hook: HookPoint,
        /// The host's last layer.
        last: usize,
    },
    /// An argument of the wrong shape, kind, device or range.
    #[error("{name}: expected {expected}, got {got}")]
    Input {
        /// The argument.
        name: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A host computes a value that is NaN or infinite.
    #[error(
        "activations at `{hook}` of document {document}, position {position}, dimension {column}: \
         expected a finite value, got {got}"
    )]
    Activation {
        /// The hook point.
        hook: HookPoint,
        /// The document, as row metadata have it.
        document: u32,
        /// The position in its context.
        position: u32,
        /// The dimension, from 0.
        column: usize,
        /// The value.
        got: f32,
    },
    /// A setting of a corpus that is out of range or contradicts another.
    #[error("{message}")]
    Corpus {
        /// The key, what would have been accepted, and what was given.
        message: String,
    },
    /// The tokenizer could not be built or could not read a text.
    #[error("tokenizer: {message}")]
    Tokenizer {
        /// What the tokenizer said.
        message: String,
    },
    /// The function that replaces activations failed.
    #[error("splice at `{hook}`: {source}")]
    Splice {
        /// Where it was called.
        hook: HookPoint,
        /// What it said.
        r#source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Files of the hub that cannot be had.
    #[error(transparent)]
    Hub(#[from] sae_hub::Error),
    /// The store could not be written.
    #[error(transparent)]
    Store(#[from] sae_data::Error),
    /// A harvest was broken off; what it wrote is kept.
    #[error("{path}: interrupted; the same harvest goes on from here", path = path.display())]
    Interrupted {
        /// The unfinished store.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn file(
        path: &Path,
        field: impl Into<String>,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::File {
            path: path.to_path_buf(),
            field: field.into(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }

    pub(crate) fn input(
        name: &'static str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::Input { name, expected: expected.to_string(), got: got.to_string() }
    }
}

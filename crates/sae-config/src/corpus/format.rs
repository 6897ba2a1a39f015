//! How the files of a corpus hold its documents.

use serde::{Deserialize, Serialize};

/// A format of corpora.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorpusFormat {
    /// Plain UTF-8, a file a document.
    Text,
    /// A JSON object a line, also compressed (`.gz`, `.zst`).
    Jsonl,
    /// Parquet.
    Parquet,
    /// NumPy arrays of token ids: one dimension, or a document a line of two.
    Npy,
    /// Token ids without a header.
    Bin,
}

impl CorpusFormat {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Text, Self::Jsonl, Self::Parquet, Self::Npy, Self::Bin];

    /// Its name, as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Npy => "npy",
            Self::Bin => "bin",
        }
    }
}

/// Width of the token ids in `.bin` files, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenType {
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
}

impl TokenType {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::U16, Self::U32];

    /// Its name, as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U16 => "u16",
            Self::U32 => "u32",
        }
    }
}

/// How chats are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatConfig {
    /// The roles whose turns count: the host reads the others, their rows are not stored. All if
    /// empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The name of the template where the host has several; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The day, `YYYY-MM-DD`, that templates which write out the date are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

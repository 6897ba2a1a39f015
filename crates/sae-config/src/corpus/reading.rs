//! Which documents of a corpus are read, in what order, and how contexts are cut of them.

use serde::{Deserialize, Serialize};

/// Whether a context holds tokens of one document or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Contexts do not reach across documents; the last of each may be short.
    #[default]
    Documents,
    /// Documents follow one another; all contexts but the last are full.
    Packed,
}

/// What stands between two documents in a packed context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Separator {
    /// The beginning-of-text token before each document where the host's own tokenizer puts it
    /// there; else the end-of-text token after each, if the host has one; else nothing.
    #[default]
    Auto,
    /// The beginning-of-text token before each document.
    Bos,
    /// The end-of-text token after each document.
    Eos,
    /// Nothing.
    None,
}

impl Separator {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Bos, Self::Eos, Self::None];

    /// Its name, as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Bos => "bos",
            Self::Eos => "eos",
            Self::None => "none",
        }
    }
}

/// Documents in random order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShuffleConfig {
    /// The seed.
    #[serde(default)]
    pub seed: u64,
    /// Documents that are held and shuffled at a time, beside the order of files and of row
    /// groups, which is random as a whole.
    #[serde(default = "default_window")]
    pub window: usize,
}

const fn default_window() -> usize {
    10_000
}

impl Default for ShuffleConfig {
    fn default() -> Self {
        Self { seed: 0, window: default_window() }
    }
}

/// A part of the documents. A document's content alone decides in which part it is, so that
/// identical ones are in the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What is not held out.
    Train,
    /// What is held out.
    HeldOut,
}

/// What is done with damaged files and documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damaged {
    /// The command stops and names them.
    #[default]
    Stop,
    /// They are left out, counted and named.
    Skip,
}

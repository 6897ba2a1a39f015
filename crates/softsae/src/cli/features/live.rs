//! Arguments of `features` for rows that no store has.

use clap::Args;

use super::super::corpus::{Format, Part};

/// What a host reads while its rows are encoded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without a store")]
pub(crate) struct LiveArgs {
    /// Files or folders of documents that --host reads, local or on the hub, as those of harvest; may
    /// be given several times
    #[arg(long, value_name = "PATH", requires = "host")]
    pub(crate) corpus: Vec<String>,
    /// Read only the files of a folder that fit a pattern, such as "data/train-*"
    #[arg(long, value_name = "PATTERN", requires = "corpus")]
    pub(crate) files: Option<String>,
    /// Format of the files; default: by their endings
    #[arg(long, value_enum, value_name = "FORMAT", requires = "corpus")]
    pub(crate) format: Option<Format>,
    /// Field or column of the document; default: text
    #[arg(long, value_name = "NAME", requires = "corpus")]
    pub(crate) field: Option<String>,
    /// Read one part of the documents; their content decides which are held out
    #[arg(long, value_enum, value_name = "PART", requires = "corpus")]
    pub(crate) split: Option<Part>,
    /// Tokens read of the whole corpus at most; default: all
    #[arg(long, value_name = "N", requires = "corpus")]
    pub(crate) total_tokens: Option<u64>,
    /// Hook point; default: that of the checkpoint
    #[arg(long, value_name = "HOOK", conflicts_with = "data")]
    pub(crate) hook: Option<String>,
    /// Tokens a context; default: as the checkpoint was trained, else 128
    #[arg(long, value_name = "N", conflicts_with = "data")]
    pub(crate) context_length: Option<usize>,
    /// First positions of each context left out
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "data")]
    pub(crate) skip_positions: usize,
}

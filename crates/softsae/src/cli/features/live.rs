//! Arguments of `features` for rows that no store has.

use clap::Args;

use super::super::corpus::DocumentArgs;
use super::super::harvest::{BosPolicy, SpecialTokens};

/// What a host reads while its rows are encoded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without a store")]
pub(crate) struct LiveArgs {
    #[command(flatten)]
    pub(crate) documents: DocumentArgs,
    /// Hook point; default: that of the checkpoint
    #[arg(long, value_name = "HOOK", conflicts_with = "data")]
    pub(crate) hook: Option<String>,
    /// Tokens a context; default: as the checkpoint was trained, else 128
    #[arg(long, value_name = "N", conflicts_with = "data")]
    pub(crate) context_length: Option<usize>,
    /// First positions of each context left out
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "data")]
    pub(crate) skip_positions: usize,
    /// Beginning-of-text token at the front of each context; default: as the checkpoint was trained, else
    /// auto
    #[arg(long, value_enum, value_name = "WHEN", conflicts_with = "data")]
    pub(crate) bos: Option<BosPolicy>,
    /// Rows of special tokens that stand in the texts; default: as the checkpoint was trained, else drop
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "data")]
    pub(crate) special_tokens: Option<SpecialTokens>,
}

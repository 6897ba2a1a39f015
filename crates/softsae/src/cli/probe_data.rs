//! Arguments of `probe-data`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae probe-data --host SmolLM2-135M-Instruct.Q4_1.gguf --hook resid_post.15 \\
      --texts spam.jsonl --out stores/probes/spam
  softsae probe-data --host dinov2-small --hook resid_post.8 --images photos --out stores/probes/photos

A line of FILE is {\"text\": \"…\", \"label\": \"…\"}. `softsae eval --suite probing --probes STORE` asks of
two labels whether it is the second by name, of more whether it is each.")]
#[command(group(clap::ArgGroup::new("labelled").required(true).args(["texts", "images"])))]
pub(crate) struct ProbeDataArgs {
    /// Host model, as `harvest` takes it
    #[arg(long, value_name = "PATH")]
    pub(crate) host: PathBuf,
    /// Hook point, as `harvest` takes it
    #[arg(long, value_name = "HOOK")]
    pub(crate) hook: String,
    /// JSON lines, each with a text and its label
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// Folder of images, labelled by the folders that they are in
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Folder of the new store, labels.json in it; what was stopped goes on there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Rows of a document that are stored
    #[arg(long, value_enum, default_value_t = ProbeRows::One)]
    pub(crate) rows: ProbeRows,
    /// Texts or images of each label at most, chosen by a hash of their content; default: all
    #[arg(long, value_name = "N")]
    pub(crate) max_per_label: Option<NonZeroUsize>,
    /// Tokens of a text that the host reads at most, the first ones
    #[arg(long, value_name = "N", default_value_t = 128, conflicts_with = "images")]
    pub(crate) max_tokens: usize,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

/// Which rows of a document are stored; probes see the mean of their features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeRows {
    /// The last token of a text, the class token of an image
    One,
    /// All tokens but the first, all patches
    All,
}

//! Arguments of `features` itself.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("rows").required(true).args(["data", "corpus"])))]
pub(crate) struct PagesArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// Activation store whose rows the features are shown on
    #[arg(long, value_name = "STORE")]
    pub(crate) data: Option<PathBuf>,
    /// Host model of the rows: its tokenizer gives the tokens their text, its unembedding the tokens
    /// that a feature promotes
    #[arg(long, value_name = "PATH")]
    pub(crate) host: Option<PathBuf>,
    /// Folder of the images that the store was harvested of, to show its pictures; --host is the vision
    /// model
    #[arg(long, value_name = "DIR", requires = "host", conflicts_with = "corpus")]
    pub(crate) images: Option<PathBuf>,
    /// Folder for features.html and its data
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Tokens shown on each side of the one of a context's row
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) window: u16,
    /// Seed of the contexts drawn from each fifth of the activations
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Let pass a store or a host of another host or hook point than the checkpoint's
    #[arg(long)]
    pub(crate) elsewhere: bool,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

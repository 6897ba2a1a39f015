//! Arguments of `features`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Example:
  softsae features runs/first/checkpoint --data stores/held-out \\
      --host SmolLM2-135M-Instruct.Q4_1.gguf --out pages

Then open pages/features.html in a browser; it needs no server.
  softsae features export pages --format neuronpedia --set mine-res-16k --out neuronpedia")]
pub(crate) struct FeaturesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<FeaturesCommand>,
    #[command(flatten)]
    pub(crate) pages: Option<PagesArgs>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FeaturesCommand {
    /// Write feature pages as files of another tool
    Export(FeaturesExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PagesArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// Activation store whose rows the features are shown on
    #[arg(long, value_name = "STORE")]
    pub(crate) data: PathBuf,
    /// Host model of the store: its tokenizer gives the tokens their text, its unembedding the tokens
    /// that a feature promotes
    #[arg(long, value_name = "PATH")]
    pub(crate) host: Option<PathBuf>,
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

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae features export pages --format neuronpedia --model smollm2-135m \\
      --set mine-res-16k --creator 'A. Person' --out neuronpedia

The files lie in OUT/MODEL/LAYER-SET.")]
pub(crate) struct FeaturesExportArgs {
    /// Folder of features.html, made with --host
    #[arg(value_name = "PAGES")]
    pub(crate) pages: PathBuf,
    /// Whose files
    #[arg(long, value_enum)]
    pub(crate) format: FeaturesFormat,
    /// Folder for the files; several layers and sets fit in one
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Name of the set of SAEs, one a layer, without the layer
    #[arg(long, value_name = "NAME")]
    pub(crate) set: String,
    /// The tool's name of the host; default: that of the pages
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// What the set is, for readers; default: its name
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Name of the release; default: that of the set
    #[arg(long, value_name = "NAME")]
    pub(crate) release: Option<String>,
    /// What the release is, for readers; default: its name
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// Who made it
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) creator: String,
    /// Neuronpedia's id of the creator; default: the one that its own tools fall back on
    #[arg(long, value_name = "ID", default_value = "clkht01d40000jv08hvalcvly")]
    pub(crate) creator_id: String,
    /// Where to read more
    #[arg(long, value_name = "URL", default_value = "")]
    pub(crate) url: String,
    /// Name of the texts; default: that of the store's folder
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset: Option<String>,
}

/// A tool that shows features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FeaturesFormat {
    /// batch-N.json, as SAEDashboard writes for Neuronpedia
    #[value(name = "saedashboard")]
    SaeDashboard,
    /// What Neuronpedia imports in bulk
    Neuronpedia,
}

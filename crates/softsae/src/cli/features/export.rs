//! Arguments of `features export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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

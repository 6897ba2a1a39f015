//! Arguments of `features`.

mod export;
mod judge;
mod live;
mod pages;

use clap::{Args, Subcommand};

pub(crate) use export::{FeaturesExportArgs, FeaturesFormat};
pub(crate) use judge::{ChosenArgs, FeaturesLabelArgs, FeaturesTasksArgs};
pub(crate) use live::LiveArgs;
pub(crate) use pages::PagesArgs;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Example:
  softsae features runs/first/checkpoint --data stores/held-out \\
      --host SmolLM2-135M-Instruct.Q4_1.gguf --out pages

Then open pages/features.html in a browser; it needs no server. Without a store:
  softsae features runs/first/checkpoint --corpus shards --total-tokens 1000000 \\
      --host SmolLM2-135M-Instruct.Q4_1.gguf --out pages
  softsae features label pages --endpoint http://localhost:8080/v1 --model qwen3-8b
  softsae features export pages --format neuronpedia --set mine-res-16k --out neuronpedia")]
pub(crate) struct FeaturesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<FeaturesCommand>,
    #[command(flatten)]
    pub(crate) pages: Option<PagesArgs>,
    // Beside them: clap takes no struct with another in it for an optional one.
    #[command(flatten)]
    pub(crate) live: LiveArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FeaturesCommand {
    /// Let a language model say what features are active on, and tell how well it can be told from that
    Label(FeaturesLabelArgs),
    /// Write what a judge of features is asked, with the right answers
    Tasks(FeaturesTasksArgs),
    /// Write feature pages as files of another tool
    Export(FeaturesExportArgs),
}

//! Arguments of every command.

mod corpus;
mod features;
mod harvest;
mod models;
mod probe_data;
mod runs;
mod steer;
mod stores;

use clap::{Parser, Subcommand};

pub(crate) use features::{
    ChosenArgs, FeaturesArgs, FeaturesCommand, FeaturesExportArgs, FeaturesFormat,
    FeaturesLabelArgs, FeaturesTasksArgs, LiveArgs, PagesArgs,
};
pub(crate) use harvest::{BosPolicy, HarvestArgs, SpecialTokens};
pub(crate) use models::{CompareArgs, ExportArgs, ImportArgs, InspectArgs};
pub(crate) use probe_data::{ProbeDataArgs, ProbeRows};
pub(crate) use runs::{ALL_SUITES, EncodeArgs, EvalArgs, TrainArgs};
pub(crate) use steer::SteerArgs;
pub(crate) use stores::{ConvertArgs, PlantArgs, StoreDtype, StoreFormat};

/// Trains, evaluates and inspects sparse autoencoders on model activations.
#[derive(Debug, Parser)]
#[command(name = "softsae", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Threads for all computation; default: one a core.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Of hosts, corpora and SAEs named hf:…, use what the cache has and ask no hub
    #[arg(long, global = true)]
    pub(crate) offline: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run texts or images through a host model and store the activations at a hook point
    Harvest(HarvestArgs),
    /// Run labelled texts or images through a host model and store activations with their labels, for
    /// probes
    ProbeData(ProbeDataArgs),
    /// Write an activation store made of known features, and what they are
    Plant(PlantArgs),
    /// Copy an activation store into another format
    Convert(ConvertArgs),
    /// Train an SAE on an activation store
    Train(TrainArgs),
    /// Measure an SAE's fidelity, sparsity, what its host loses of texts or images, and what it finds
    /// of planted features
    Eval(EvalArgs),
    /// Tell how far two SAEs share their features
    Compare(CompareArgs),
    /// Store the sparse codes of an activation store
    Encode(EncodeArgs),
    /// Make pages of what every feature of an SAE is active on, and files of them for other tools
    Features(Box<FeaturesArgs>),
    /// Let a language model write with a feature added to its activations
    Steer(SteerArgs),
    /// Describe an activation store or a checkpoint
    Inspect(InspectArgs),
    /// Write a checkpoint as the files of another tool
    Export(ExportArgs),
    /// Make a checkpoint of another tool's files
    Import(ImportArgs),
}

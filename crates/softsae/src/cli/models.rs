//! Arguments of the commands about models and their files: `inspect`, `compare`, `export`,
//! `import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae inspect stores/austen
  softsae inspect runs/first/checkpoint")]
pub(crate) struct InspectArgs {
    /// An activation store or a checkpoint folder
    #[arg(value_name = "STORE|CHECKPOINT")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae compare runs/seed-0/checkpoint runs/seed-1/checkpoint --data stores/held-out

Features are compared by the directions of their decoders; beside the scores stand those of random
directions. PW-MCC: mean cosine of the best one-to-one matching (arXiv 2505.20254). A feature of the
smaller SAE is kept where one of the larger has a cosine of 0.7 with it; else it is split, changed or
lost, as it is the nearest, at 0.4 at least, of several features, of one or of none.")]
pub(crate) struct CompareArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) first: PathBuf,
    /// Another
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) second: PathBuf,
    /// Compare only features that are active on a row of this store; default: all
    #[arg(long, value_name = "STORE")]
    pub(crate) data: Option<PathBuf>,
    /// Let pass checkpoints and stores of different hosts or hook points
    #[arg(long)]
    pub(crate) elsewhere: bool,
    /// Write the comparison, with every feature of the smaller dictionary, as JSON to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae export runs/first/checkpoint --format saelens --out exported \\
      --data stores/held-out --verify

A SoftSAE for SAELens comes with the Python class that reads it, softsae_saelens.py.")]
pub(crate) struct ExportArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// The tool whose files to write
    #[arg(long, value_enum)]
    pub(crate) format: ExportFormat,
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Activation store that names host and hook point, and has rows to verify with
    #[arg(long, value_name = "STORE")]
    pub(crate) data: Option<PathBuf>,
    /// Let pass a store of another host or hook point than the checkpoint's
    #[arg(long)]
    pub(crate) elsewhere: bool,
    /// Read the files back and compare features and reconstructions with those of the checkpoint,
    /// on rows of --data or on random ones
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae import gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82 --format gemma-scope \\
      --out checkpoints/gemma-scope

Every key and tensor is followed or refused; what a user has to know is printed as a note.")]
pub(crate) struct ImportArgs {
    /// Folder with the files, local or on the hub (hf:OWNER/NAME, hf:OWNER/NAME/PATH@REVISION)
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The tool whose files they are
    #[arg(long, value_enum)]
    pub(crate) format: ModelFormat,
    /// Folder of the new checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) out: PathBuf,
}

/// A tool whose model files are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ExportFormat {
    /// SAELens: cfg.json and sae_weights.safetensors
    #[value(name = "saelens")]
    SaeLens,
    /// dictionary_learning: config.json and ae.pt
    DictionaryLearning,
    /// sparsify: cfg.json and sae.safetensors; topk alone
    Sparsify,
    /// The published code of SoftSAE: config.json and ae.pt; soft alone
    #[value(name = "softsae")]
    SoftSae,
}

impl From<ExportFormat> for sae_models::Format {
    fn from(format: ExportFormat) -> Self {
        match format {
            ExportFormat::SaeLens => Self::SaeLens,
            ExportFormat::DictionaryLearning => Self::DictionaryLearning,
            ExportFormat::Sparsify => Self::Sparsify,
            ExportFormat::SoftSae => Self::SoftSae,
        }
    }
}

/// A tool whose model files are read.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ModelFormat {
    /// SAELens: cfg.json and sae_weights.safetensors
    #[value(name = "saelens")]
    SaeLens,
    /// dictionary_learning: config.json and ae.pt
    DictionaryLearning,
    /// sparsify: cfg.json and sae.safetensors; topk alone
    Sparsify,
    /// The published code of SoftSAE: config.json and ae.pt; soft alone
    #[value(name = "softsae")]
    SoftSae,
    /// Gemma Scope: params.npz; jumprelu alone
    GemmaScope,
}

impl From<ModelFormat> for sae_models::Format {
    fn from(format: ModelFormat) -> Self {
        match format {
            ModelFormat::SaeLens => Self::SaeLens,
            ModelFormat::DictionaryLearning => Self::DictionaryLearning,
            ModelFormat::Sparsify => Self::Sparsify,
            ModelFormat::SoftSae => Self::SoftSae,
            ModelFormat::GemmaScope => Self::GemmaScope,
        }
    }
}

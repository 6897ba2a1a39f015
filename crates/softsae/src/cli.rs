//! Arguments of every command.

use std::num::{NonZeroI32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Trains, evaluates and inspects sparse autoencoders on model activations.
#[derive(Debug, Parser)]
#[command(name = "softsae", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Threads for all computation; default: one a core.
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroI32>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run texts or images through a host model and store the activations at a hook point
    Harvest(HarvestArgs),
    /// Write an activation store made of known features, and what they are
    Plant(PlantArgs),
    /// Copy an activation store into another format
    Convert(ConvertArgs),
    /// Train an SAE on an activation store
    Train(TrainArgs),
    /// Measure an SAE's fidelity, sparsity and cross-entropy recovered, and what it finds of
    /// planted features
    Eval(EvalArgs),
    /// Store the sparse codes of an activation store
    Encode(EncodeArgs),
    /// Describe an activation store or a checkpoint
    Inspect(InspectArgs),
    /// Write a checkpoint as the files of another tool
    Export(ExportArgs),
    /// Make a checkpoint of another tool's files
    Import(ImportArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae harvest --host SmolLM2-135M-Instruct.Q4_1.gguf --text austen.txt \\
      --hook resid_post.15 --out stores/austen
  softsae harvest --host dinov2-small --images photos --hook resid_post.5 --out stores/photos

Images need a host folder with preprocessor_config.json.")]
#[command(group(clap::ArgGroup::new("input").required(true).args(["text", "images"])))]
pub(crate) struct HarvestArgs {
    /// Host model: a GGUF file or a folder with config.json and model.safetensors
    #[arg(long, value_name = "PATH")]
    pub(crate) host: PathBuf,
    /// UTF-8 text file, for a language model; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Vec<PathBuf>,
    /// Folder of images (PNG, JPEG, WebP, BMP; folders in it too), for a vision model
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Hook point: resid_pre.L, resid_post.L, attn_out.L or mlp_out.L
    #[arg(long, value_name = "HOOK")]
    pub(crate) hook: String,
    /// Folder of the new store; a harvest that was stopped goes on there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Tokens read of each text at most; default: all
    #[arg(long, value_name = "N", conflicts_with = "images")]
    pub(crate) max_tokens: Option<u64>,
    /// Tokens a context; default: 128, or as many as the host has positions
    #[arg(long, value_name = "N", conflicts_with = "images")]
    pub(crate) context_length: Option<usize>,
    /// First positions of each context left out of the store (position 0 carries massive activations)
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "images")]
    pub(crate) skip_positions: usize,
    /// Beginning-of-text token at the front of each context, as its position 0
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t = BosPolicy::Auto,
        default_missing_value = "always",
        num_args = 0..=1,
        conflicts_with = "images"
    )]
    pub(crate) bos: BosPolicy,
    /// Rows of special tokens that stand in the texts
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        default_value_t = SpecialTokens::Drop,
        conflicts_with = "images"
    )]
    pub(crate) special_tokens: SpecialTokens,
    /// Element type of the store
    #[arg(long, value_enum, default_value_t = HarvestDtype::F32, conflicts_with = "images")]
    pub(crate) dtype: HarvestDtype,
    /// Positions of each image that are stored
    #[arg(long, value_enum, default_value_t = Positions::Patches, conflicts_with = "text")]
    pub(crate) positions: Positions,
    /// Stop after this many images, by name
    #[arg(long, value_name = "N", conflicts_with = "text")]
    pub(crate) max_images: Option<NonZeroUsize>,
    /// Where to compute: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

/// When a host's beginning-of-text token leads each context.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BosPolicy {
    /// Where the host's own tokenizer puts it before a text
    Auto,
    /// With every host that has one; others are refused
    Always,
    /// With none
    Never,
}

impl From<BosPolicy> for sae_hosts::Bos {
    fn from(policy: BosPolicy) -> Self {
        match policy {
            BosPolicy::Auto => Self::Auto,
            BosPolicy::Always => Self::Always,
            BosPolicy::Never => Self::Never,
        }
    }
}

/// What is done with special tokens that stand in a text.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SpecialTokens {
    /// The host reads them, and that is all
    Drop,
    /// They are tokens like all others
    Keep,
}

impl From<SpecialTokens> for sae_hosts::SpecialTokens {
    fn from(what: SpecialTokens) -> Self {
        match what {
            SpecialTokens::Drop => Self::Dropped,
            SpecialTokens::Keep => Self::Kept,
        }
    }
}

/// An element type of stores that are harvested.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum HarvestDtype {
    F32,
    F16,
    Bf16,
}

impl From<HarvestDtype> for sae_data::Dtype {
    fn from(dtype: HarvestDtype) -> Self {
        match dtype {
            HarvestDtype::F32 => Self::F32,
            HarvestDtype::F16 => Self::F16,
            HarvestDtype::Bf16 => Self::BF16,
        }
    }
}

/// Which positions of an image are stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Positions {
    /// The class token and the patches
    All,
    /// The class token
    Class,
    /// The patches
    Patches,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae plant planted.toml --out stores/planted

planted.toml (every key may be left out):
  [planted]
  n_rows = 100000
  first_row = 0              # rows that a held-out store of the same seed begins after
  d_model = 64
  n_features = 256
  seed = 0
  k_min = 2                  # active features of a row: from k_min to k_max, equally likely
  k_max = 14
  frequency_exponent = 0.5   # features are as frequent as rank^(-exponent)
  group_size = 8
  correlation = 0.0          # probability that the next feature comes from an active one's group
  children_per_parent = 0    # a child is active only with its parent
  magnitude = 1.0
  magnitude_sd = 0.3
  noise = 0.05
  offset = 0.0
  manifolds = { dimensions = [2, 3], radius = 1.0 }   # default: none")]
pub(crate) struct PlantArgs {
    /// What the rows are made of
    #[arg(value_name = "PLANTED.toml")]
    pub(crate) config: PathBuf,
    /// Folder of the new store; one that was cut off is finished
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae convert stores/austen --out austen.npy --format npy
  softsae convert rows_5000_576.npy --out stores/half --dtype f16")]
pub(crate) struct ConvertArgs {
    /// An activation store
    #[arg(value_name = "STORE")]
    pub(crate) store: PathBuf,
    /// Where the copy goes
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    /// The copy's format
    #[arg(long, value_enum, default_value_t = StoreFormat::Native)]
    pub(crate) format: StoreFormat,
    /// The copy's element type; default: that of the store
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<StoreDtype>,
}

/// A format of activation stores.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum StoreFormat {
    /// A folder of shards with a manifest and checksums
    Native,
    /// NumPy's .npy
    Npy,
    /// f32 without a header, named *_N_D.npy
    Headerless,
}

/// An element type of activation stores.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum StoreDtype {
    F16,
    Bf16,
    F32,
    /// .npy only
    F64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae train run.toml --out runs/first
  softsae train run.toml --out runs/first --resume
  softsae train run.toml --plan")]
pub(crate) struct TrainArgs {
    /// The run's configuration
    #[arg(value_name = "RUN.toml")]
    pub(crate) config: PathBuf,
    /// Folder for checkpoint/, metrics.jsonl and the resolved run.toml
    #[arg(long, value_name = "DIR", required_unless_present = "plan")]
    pub(crate) out: Option<PathBuf>,
    /// Go on from the last checkpoint in the folder, if there is one
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print the memory that the run would take, and train nothing
    #[arg(long, conflicts_with_all = ["resume", "profile"])]
    pub(crate) plan: bool,
    /// Print at the end where the time of the steps went, and the peak of memory
    #[arg(long)]
    pub(crate) profile: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae eval runs/first/checkpoint --data stores/held-out \\
      --host SmolLM2-135M-Instruct.Q4_1.gguf --text held-out.txt")]
pub(crate) struct EvalArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// Held-out activation store
    #[arg(long, value_name = "STORE")]
    pub(crate) data: PathBuf,
    /// Leave out rows whose norm exceeds this multiple of the median norm; 0 keeps all
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    pub(crate) max_norm_ratio: f64,
    /// Host model, to measure cross-entropy with the reconstruction spliced in
    #[arg(long, value_name = "PATH", requires = "text")]
    pub(crate) host: Option<PathBuf>,
    /// Held-out UTF-8 text for the host; may be given several times
    #[arg(long, value_name = "FILE", requires = "host")]
    pub(crate) text: Vec<PathBuf>,
    /// Hook point; default: the one the store was harvested at
    #[arg(long, value_name = "HOOK")]
    pub(crate) hook: Option<String>,
    /// Tokens a context; default: as the store was harvested
    #[arg(long, value_name = "N")]
    pub(crate) context_length: Option<usize>,
    /// First positions of each context left as they are; default: as the store was harvested
    #[arg(long, value_name = "N")]
    pub(crate) skip_positions: Option<usize>,
    /// Beginning-of-text token at the front of each context; default: as the store was harvested
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_missing_value = "always",
        num_args = 0..=1
    )]
    pub(crate) bos: Option<BosPolicy>,
    /// Special tokens in the text, left as they are and not counted, or taken as all others;
    /// default: as the store was harvested
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) special_tokens: Option<SpecialTokens>,
    /// Tokens read of each text at most; default: all
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u64>,
    /// Write the evaluation as JSON to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Where to compute: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae encode runs/first/checkpoint --data stores/held-out --out codes")]
pub(crate) struct EncodeArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// Activation store to encode
    #[arg(long, value_name = "STORE")]
    pub(crate) data: PathBuf,
    /// Folder for the codes, as safetensors shards (indptr, indices, values)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Where to compute: cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

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
  softsae export runs/first/checkpoint --format saelens --out exported \\
      --data stores/held-out --verify

A SoftSAE for SAELens comes with the Python class that reads it, softsae_saelens.py.")]
pub(crate) struct ExportArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// The tool whose files to write
    #[arg(long, value_enum)]
    pub(crate) format: ModelFormat,
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Activation store that names host and hook point, and has rows to verify with
    #[arg(long, value_name = "STORE")]
    pub(crate) data: Option<PathBuf>,
    /// Read the files back and compare features and reconstructions with those of the checkpoint,
    /// on rows of --data or on random ones
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae import gemma-scope-sae --format saelens --out checkpoints/gemma-scope")]
pub(crate) struct ImportArgs {
    /// Folder with the files
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The tool whose files they are
    #[arg(long, value_enum)]
    pub(crate) format: ModelFormat,
    /// Folder of the new checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) out: PathBuf,
}

/// A tool whose model files are read and written.
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
}

impl From<ModelFormat> for sae_models::Format {
    fn from(format: ModelFormat) -> Self {
        match format {
            ModelFormat::SaeLens => Self::SaeLens,
            ModelFormat::DictionaryLearning => Self::DictionaryLearning,
            ModelFormat::Sparsify => Self::Sparsify,
            ModelFormat::SoftSae => Self::SoftSae,
        }
    }
}

//! Arguments of the commands that write stores: `plant`, `convert`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sae_data::Compression;

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
  manifolds = { dimensions = [2, 3], radius = 1.0 }   # default: none

or, in place of all from k_min on, rows of SynthSAEBench's distributions (defaults: its 16k model):
  [planted.synth]
  max_probability = 0.4      # of the first feature; the last has min_probability, between them
  min_probability = 5e-4     # they fall as rank^(-exponent)
  exponent = 0.5
  correlation_rank = 25      # common factors of the Gaussian copula
  correlation_scale = 0.1
  roots = 128                # trees of features, 0 for none
  branching = 4
  depth = 3
  exclusive_siblings = true
  scaled_by_parent = true
  compensated = true         # probabilities make up for what parents and siblings take
  first_magnitude = 5.0      # mean activation, linear from the first feature to the last
  last_magnitude = 4.0
  spread_mean = 0.5          # a feature's standard deviation is |N(spread_mean, spread_sd^2)|
  spread_sd = 0.5
  bias = 0.5
  orthogonal_steps = 100     # of Adam on the dictionary
  orthogonal_lr = 3e-4

or those of a model that SAELens has saved, of d_model and n_features as above:
  [planted]
  model = \"FOLDER\"")]
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
  softsae convert rows_5000_576.npy --out stores/half --dtype f16
  softsae convert stores/austen --out stores/small --dtype int8 --compress zstd")]
pub(crate) struct ConvertArgs {
    /// An activation store: native, .npy, .safetensors, headerless *_N_D.npy, shards of saev, or a folder
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
    /// Compress the copy: zstd or zstd:LEVEL, from 1 to 22
    #[arg(long, value_name = "zstd[:LEVEL]")]
    pub(crate) compress: Option<Compression>,
}

/// A format of activation stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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
    /// Native only: from -127 to 127, with a scale for each row
    Int8,
    F16,
    Bf16,
    F32,
    /// .npy only
    F64,
}

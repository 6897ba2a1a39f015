//! Arguments of the commands that run a model over a store: `train`, `eval`, `encode`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use sae_config::Suite;

use super::{BosPolicy, SpecialTokens};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae train run.toml --out runs/first
  softsae train run.toml --out runs/first --resume
  softsae train run.toml --plan
  softsae train k32.toml k64.toml --out runs/k32 --out runs/k64

Several runs that read the same batches (the same [data], seed, batch size and device) train in one
pass over them, each to the same bits as alone; with --resume, from the place of the one that has
done the fewest steps.

With `target = STORE` beside `store = STORE` in `[data]`, the run trains a transcoder: it rebuilds
the rows of `target` from those of `store`, matched by document and position. With `host`, `hook` and
`[data.corpus]` in the place of `store`, it takes its activations straight from the host.")]
pub(crate) struct TrainArgs {
    /// The run's configuration; several of them read one stream of batches
    #[arg(value_name = "RUN.toml", required = true)]
    pub(crate) config: Vec<PathBuf>,
    /// Folder for checkpoint/, metrics.jsonl and the resolved run.toml; of several runs, one for each
    /// in their order
    #[arg(long, value_name = "DIR", required_unless_present = "plan")]
    pub(crate) out: Vec<PathBuf>,
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

/// The arguments of `eval` that say what its host reads, and how.
const OF_HOST: [&str; 8] = [
    "text",
    "images",
    "hook",
    "context_length",
    "skip_positions",
    "bos",
    "special_tokens",
    "max_tokens",
];

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae eval runs/first/checkpoint --data stores/held-out \\
      --host SmolLM2-135M-Instruct.Q4_1.gguf --text held-out.txt
  softsae eval runs/vit/checkpoint --data stores/photos --host dinov2-small --images photos
  softsae eval runs/first/checkpoint --data stores/held-out --suite all \\
      --probes stores/probes/spam --against runs/second/checkpoint --floors stores/floors")]
#[command(group(clap::ArgGroup::new("read").args(["text", "images"])))]
#[command(group(
    // An argument that is required is not asked for beside one that it conflicts with.
    clap::ArgGroup::new("of_host").multiple(true).args(OF_HOST).requires("host").conflicts_with("target")
))]
pub(crate) struct EvalArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// Held-out activation store
    #[arg(long, value_name = "STORE")]
    pub(crate) data: PathBuf,
    /// Of a transcoder, the store of what it is to rebuild, matched to DATA by document and position
    #[arg(long, value_name = "STORE", conflicts_with = "host")]
    pub(crate) target: Option<PathBuf>,
    /// Leave out rows whose norm exceeds this multiple of the median norm of rows not zero; 0 keeps all
    #[arg(long, value_name = "RATIO", default_value_t = 0.0)]
    pub(crate) max_norm_ratio: f64,
    /// Host model, to measure cross-entropy on texts, or embeddings of images, with the
    /// reconstruction spliced in
    #[arg(long, value_name = "PATH", requires = "read")]
    pub(crate) host: Option<PathBuf>,
    /// Held-out UTF-8 text for the host; may be given several times
    #[arg(long, value_name = "FILE", requires = "host")]
    pub(crate) text: Vec<PathBuf>,
    /// Folder of held-out images for the host, read as the store was harvested; their labels are
    /// the folders that they are in
    #[arg(long, value_name = "DIR", requires = "host")]
    pub(crate) images: Option<PathBuf>,
    /// For the suite vision, another vision model than the host, which says how alike images are
    #[arg(long, value_name = "PATH", requires = "images")]
    pub(crate) encoder: Option<PathBuf>,
    /// Hook point, as `harvest` takes it; default: the one the store was harvested at
    #[arg(long, value_name = "HOOK")]
    pub(crate) hook: Option<String>,
    /// Let pass activations of another host or hook point than the checkpoint's
    #[arg(long)]
    pub(crate) elsewhere: bool,
    /// Tokens a context; default: as the store was harvested
    #[arg(long, value_name = "N", conflicts_with = "images")]
    pub(crate) context_length: Option<usize>,
    /// First positions of each context left as they are; default: as the store was harvested
    #[arg(long, value_name = "N", conflicts_with = "images")]
    pub(crate) skip_positions: Option<usize>,
    /// Beginning-of-text token at the front of each context; default: as the store was harvested
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_missing_value = "always",
        num_args = 0..=1,
        conflicts_with = "images"
    )]
    pub(crate) bos: Option<BosPolicy>,
    /// Special tokens in the text, left as they are and not counted, or taken as all others;
    /// default: as the store was harvested
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "images")]
    pub(crate) special_tokens: Option<SpecialTokens>,
    /// Tokens read of each text at most; default: all
    #[arg(long, value_name = "N", conflicts_with = "images")]
    pub(crate) max_tokens: Option<u64>,
    /// Scores with 95 % intervals, beside those of worthless dictionaries; several by commas. `all`
    /// leaves out those that lack what they need
    #[arg(long, value_name = "SUITE", value_delimiter = ',', value_parser = suite_names())]
    pub(crate) suite: Vec<String>,
    /// For the suite probing, a labelled store that `probe-data` has made; may be given several times
    #[arg(long, value_name = "STORE", requires = "suite")]
    pub(crate) probes: Vec<PathBuf>,
    /// For the suite stability, a checkpoint of another seed, run or width; may be given several times
    #[arg(long, value_name = "CHECKPOINT", requires = "suite")]
    pub(crate) against: Vec<PathBuf>,
    /// Store whose rows worthless dictionaries are made of, best the one trained on; default: DATA
    #[arg(long, value_name = "STORE", requires = "suite")]
    pub(crate) train_data: Option<PathBuf>,
    /// Folder that keeps what worthless dictionaries got, for other SAEs of the same width, L0 and data,
    /// and what dense probes found
    #[arg(long, value_name = "DIR", requires = "suite")]
    pub(crate) floors: Option<PathBuf>,
    /// Measure no worthless dictionaries
    #[arg(long, requires = "suite", conflicts_with = "floors")]
    pub(crate) no_floors: bool,
    /// Write the evaluation as JSON to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

/// The name that stands for all suites.
pub(crate) const ALL_SUITES: &str = "all";

fn suite_names() -> PossibleValuesParser {
    PossibleValuesParser::new(Suite::ALL.map(Suite::name).into_iter().chain([ALL_SUITES]))
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
    /// Let pass activations of another host or hook point than the checkpoint's
    #[arg(long)]
    pub(crate) elsewhere: bool,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

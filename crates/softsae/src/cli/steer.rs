//! Arguments of `steer`.

use std::path::PathBuf;

use clap::Args;

use super::BosPolicy;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae steer runs/first/checkpoint --host SmolLM2-135M-Instruct.Q4_1.gguf \\
      --feature 812 --prompt 'The weather today is' --strength 0,20,40

An activation of STRENGTH is added to the feature's at each position, of the prompt and of what is
written; 0 is the host as it is, less than 0 takes away. Without --strength: 0 and what adds ¼, ½, 1
and 2 times the norm of the host's activations. Perplexity is that of the new text under the host as
it is, and the activation the mean of the feature's where that host reads it.")]
pub(crate) struct SteerArgs {
    /// A checkpoint folder
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// The language model
    #[arg(long, value_name = "PATH")]
    pub(crate) host: PathBuf,
    /// Number of the feature, from 0
    #[arg(long, value_name = "N")]
    pub(crate) feature: usize,
    /// Text to go on with
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: String,
    /// Activation that is added to the feature's; several with commas between them
    #[arg(long, value_name = "S", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) strength: Vec<f64>,
    /// New tokens at most
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(crate) max_tokens: usize,
    /// 0 takes the likeliest token each time; others draw from the distribution at this temperature
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Seed of the draws, the same at each strength
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Hook point, as `harvest` takes it; default: the one the checkpoint was trained at
    #[arg(long, value_name = "HOOK")]
    pub(crate) hook: Option<String>,
    /// First positions that are not steered
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) skip_positions: usize,
    /// Beginning-of-text token in front of the prompt
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t = BosPolicy::Auto,
        default_missing_value = "always",
        num_args = 0..=1
    )]
    pub(crate) bos: BosPolicy,
    /// Let pass a host or hook point that is not the checkpoint's
    #[arg(long)]
    pub(crate) elsewhere: bool,
    /// Write the continuations as JSON to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

//! Arguments of `features label` and `features tasks`.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;

/// Which features of pages.
#[derive(Debug, Args)]
pub(crate) struct ChosenArgs {
    /// Features by number and range, such as 7,100-199; default: a sample
    #[arg(long, value_name = "LIST", conflicts_with = "sample")]
    pub(crate) features: Option<String>,
    /// So many features, drawn uniformly from those that are active; a larger sample has the smaller one
    /// in it
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) sample: NonZeroUsize,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae features tasks pages --sample 500 --out tasks.jsonl")]
pub(crate) struct FeaturesTasksArgs {
    /// Folder of features.html, made with --host
    #[arg(value_name = "PAGES")]
    pub(crate) pages: PathBuf,
    #[command(flatten)]
    pub(crate) chosen: ChosenArgs,
    /// File for the tasks, a line of JSON for each feature
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  OPENAI_API_KEY=... softsae features label pages --endpoint https://api.openai.com/v1 \\
      --model gpt-4.1-mini --sample 200 --max-tokens 2000000
  softsae features label pages --endpoint http://localhost:8080/v1 --model qwen3-8b

The texts of the contexts are sent to the endpoint. Answers are kept in PAGES/judge-answers.jsonl: a command
that was stopped goes on there and asks nothing twice.")]
pub(crate) struct FeaturesLabelArgs {
    /// Folder of features.html, made with --host
    #[arg(value_name = "PAGES")]
    pub(crate) pages: PathBuf,
    /// Address of an OpenAI-compatible endpoint, with or without /chat/completions
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: String,
    /// The model's name there
    #[arg(long, value_name = "NAME")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) chosen: ChosenArgs,
    /// Environment variable that has the key; default: OPENAI_API_KEY, if it is set
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) api_key_env: Option<String>,
    /// Requests at most, those that the kept answers took included; default: no bound
    #[arg(long, value_name = "N")]
    pub(crate) max_requests: Option<NonZeroU64>,
    /// Tokens of prompts and answers at most, those of the kept answers included; default: no bound
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<NonZeroU64>,
    /// Tokens of one answer at most
    #[arg(long, value_name = "N", default_value = "1024")]
    pub(crate) answer_tokens: NonZeroU32,
    /// Features asked of at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// Times that a request is sent before it is given up
    #[arg(long, value_name = "N", default_value = "6")]
    pub(crate) attempts: NonZeroU32,
    /// Seconds that the endpoint may be silent
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    pub(crate) timeout: NonZeroU32,
}

//! `bench`: the criterion benches; each prints its own table.

use anyhow::Result;
use clap::Args;

use crate::workspace::Workspace;
use crate::{process, setup};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask bench\n  cargo xtask bench soft-topk")]
pub(crate) struct BenchArgs {
    /// Name of one bench; default: all
    name: Option<String>,
    /// Arguments for criterion, such as part of an id
    #[arg(last = true)]
    filter: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<()> {
    setup::ensure(workspace)?;
    let mut command = process::cargo(workspace);
    command.args(["bench", "--package", "benches"]);
    match &args.name {
        Some(name) => command.args(["--bench", name]),
        None => command.arg("--benches"),
    };
    process::run(command.arg("--").args(&args.filter), "benchmarking")
}

//! `test`: every test of the workspace, with libtorch and the models they need.

use anyhow::Result;
use clap::Args;

use crate::workspace::Workspace;
use crate::{assets, process, setup};

#[derive(Debug, Default, Args)]
#[command(after_help = "Example:\n  cargo xtask test\n  cargo xtask test -- gguf")]
pub(crate) struct TestArgs {
    /// Arguments for the tests, such as part of a name
    #[arg(last = true)]
    filter: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    setup::ensure(workspace)?;
    let smollm2 = assets::SMOLLM2.fetch(workspace)?;
    // One crate works with and without libtorch; the workspace's features turn it on.
    let alone = ["--package", "soft-topk", "--no-default-features"];
    for (what, selection) in [
        ("testing soft-topk without libtorch", &alone[..]),
        ("testing the workspace", &["--workspace", "--all-features"][..]),
    ] {
        let mut command = process::cargo(workspace);
        command.arg("test").args(selection).env("SOFTSAE_SMOLLM2", &smollm2);
        process::run(command.arg("--").args(&args.filter), what)?;
    }
    Ok(())
}

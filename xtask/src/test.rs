//! `test`: every test of the workspace, with libtorch and the models they need.

use anyhow::Result;
use clap::Args;

use crate::workspace::Workspace;
use crate::{assets, browser, process, setup};

#[derive(Debug, Default, Args)]
#[command(after_help = "Example:\n  cargo xtask test\n  cargo xtask test -- gguf
  cargo xtask test --slurm")]
pub(crate) struct TestArgs {
    /// The long tests of sweeps on SLURM alone: 1,200 runs, and a task over its time
    #[arg(long)]
    slurm: bool,
    /// Arguments for the tests, such as part of a name
    #[arg(last = true)]
    filter: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    setup::ensure(workspace)?;
    if args.slurm {
        return test_slurm(workspace);
    }
    let smollm2 = assets::SMOLLM2.fetch(workspace)?;
    let vit = assets::VIT_S_FOCUS.fetch(workspace)?;
    let axe = browser::prepare(workspace);
    // One crate works with and without libtorch; the workspace's features turn it on.
    let alone = ["--package", "soft-topk", "--no-default-features"];
    for (what, selection) in [
        ("testing soft-topk without libtorch", &alone[..]),
        ("testing the workspace", &["--workspace", "--all-features"][..]),
    ] {
        let mut command = process::cargo(workspace);
        command.arg("test").args(selection).env("SOFTSAE_SMOLLM2", &smollm2);
        command.env("SOFTSAE_VIT", &vit);
        // Tests of sweeps wait for other programs most of their time.
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            let n_threads = 2 * std::thread::available_parallelism()?.get();
            command.env("RUST_TEST_THREADS", n_threads.to_string());
        }
        if let Some(axe) = &axe {
            command.env("SOFTSAE_AXE", axe);
        }
        process::run(command.arg("--").args(&args.filter), what)?;
    }
    Ok(())
}

/// Runs that do not fit into one array job, on a SLURM that the test starts.
fn test_slurm(workspace: &Workspace) -> Result<()> {
    let mut build = process::cargo(workspace);
    process::run(build.args(["build", "--package", "softsae"]), "building softsae")?;
    let mut command = process::cargo(workspace);
    command.args(["test", "--package", "xtask", "--test", "main", "--", "--nocapture", "--exact"]);
    command.args([
        "slurm::more_runs_than_an_array_takes_are_several_arrays",
        "slurm_ends::a_task_over_its_time_is_named_and_goes_on_at_the_next_start",
    ]);
    process::run(command.env("SOFTSAE_SLURM_RUNS", "1200"), "testing on SLURM")
}

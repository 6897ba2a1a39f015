//! `gpu-check`: device tests, benches, and runs on the CPU and on the GPU beside each other, in one
//! command that goes on where a part fails.

mod machine;
mod steps;
mod summary;
mod training;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::exit::usage;
use crate::process;
use crate::workspace::Workspace;
use steps::Steps;
use summary::Summary;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae-torch-2.11/run gpu-check --device cuda:0 --out gpu-check
  softsae-torch-2.11/run gpu-check --device cpu --quick --out cpu-check")]
pub(crate) struct GpuCheckArgs {
    /// The new folder for logs and results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The device to check: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cuda:0")]
    device: String,
    /// What has not been started after so many minutes is left out, what runs is stopped
    #[arg(long, value_name = "N", default_value_t = 8)]
    minutes: u64,
    /// Benches at their smallest shape, and a tenth of the training
    #[arg(long)]
    quick: bool,
}

/// Steps of the training at each architecture.
const TRAINING_STEPS: u32 = 1000;
const QUICK_TRAINING_STEPS: u32 = 100;

/// Parts of the ids of measurements.
const SHAPES: [(&str, &str); 2] =
    [("soft-topk", "256x16384/"), ("train-step", "2048x768x16384x64")];
const QUICK_SHAPES: [(&str, &str); 2] =
    [("soft-topk", "256x4096/1e-2"), ("train-step", "2048x576x4608x32")];

pub(crate) fn run(workspace: &Workspace, args: &GpuCheckArgs) -> Result<()> {
    if args.out.exists() {
        bail!(usage(format!("--out: {} is there already", args.out.display())));
    }
    if !workspace.is_bundle() {
        bail!(usage("gpu-check is for a bundle: cargo xtask bundle, then DIR/run gpu-check"));
    }
    steps::end_at_interrupt()?;
    let softsae = process::build(workspace, "softsae")?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let out = args.out.canonicalize()?;
    let machine = machine::describe();
    for (key, value) in &machine {
        say!("{key}: {value}");
    }
    let limit = Duration::from_secs(60 * args.minutes);
    let mut steps = Steps::new(&out, limit);

    let xtask = || -> Result<Command> { Ok(Command::new(std::env::current_exe()?)) };
    let mut tests = xtask()?;
    tests.args(["device-tests", "--device", &args.device]);
    tests.arg("--json").arg(out.join("device-tests.json"));
    if steps.run("device-tests", &mut tests)? == Some(2) {
        let line = steps.last_line("device-tests");
        // So that the same command may be given again.
        std::fs::remove_dir_all(&out).with_context(|| out.display().to_string())?;
        bail!(usage(line.trim_start_matches("error: ")));
    }
    for (name, id) in if args.quick { QUICK_SHAPES } else { SHAPES } {
        let mut bench = xtask()?;
        bench.args(["bench", name, "--device", &args.device, "--out"]).arg(out.join("bench"));
        bench.args(["--", "--warm-up-time=0.3", "--measurement-time=1", "--noplot", id]);
        steps.run(&format!("bench-{name}"), &mut bench)?;
    }
    let n = if args.quick { QUICK_TRAINING_STEPS } else { TRAINING_STEPS };
    let pairs = training::run(&mut steps, &softsae, &args.device, n)?;
    let results = out.join("bench");
    let summary = Summary::new(&args.device, machine, steps.into_done(), pairs, &results);
    summary.write(&out)?;
    say!("\n{}", summary.text());
    match summary.failures() {
        0 => Ok(()),
        n => bail!("{n} parts failed; their logs are in {}", out.display()),
    }
}

//! `sweep`: from a TOML file to trained, evaluated and reported runs, each in processes of its own.

mod account;
mod attempt;
mod child;
mod commands;
mod conclude;
mod content;
mod devices;
mod filter;
mod folder;
mod frontier;
mod halving;
mod images;
mod init;
mod inputs;
mod job;
mod limits;
mod live;
mod local;
mod made;
mod memory;
mod metrics;
mod pages;
mod pair;
mod plan;
mod pointed;
mod program;
mod progress;
mod results;
mod runs_csv;
mod runs_data;
mod scores_csv;
mod seeds;
mod slurm;
mod source;
mod state;
mod stop;
mod stores;
mod suites;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod texts;
mod together;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use sae_config::Suite;

use crate::exit::{self, Interrupted, message, note, usage};
use crate::workspace::Workspace;
use crate::{process, setup};
use account::Maker;
use child::Limits;
use folder::Claimed;
use job::Job;
use plan::{Plan, PlannedRun};
use slurm::Outcome;
use suites::Suites;

pub(crate) use commands::Sweep;
pub(crate) use task::{OneRunArgs, run_one};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = concat!("A whole sweep file (--init writes a longer one, with comments):

", include_str!("sweep/small.toml"), "
Examples:
  cargo xtask sweep
  cargo xtask sweep --init my-sweep.toml
  cargo xtask sweep quickstart --dry-run
  cargo xtask sweep my-sweep.toml --out runs/mine --filter architecture=soft --filter k=32
  cargo xtask sweep my-sweep.toml --jobs 4 --time-limit 2h --memory-limit 8GB --retries 3
  cargo xtask sweep my-sweep.toml --launcher slurm --jobs 8 --detach
  cargo xtask sweep status runs/mine --watch
  cargo xtask sweep logs runs/mine 3 --follow
  cargo xtask sweep rm runs/mine --failed
  cargo xtask sweep diff runs/mine runs/other"))]
pub(crate) struct SweepArgs {
    #[command(subcommand)]
    command: Option<commands::Command>,
    /// A bundled sweep, or a file of one's own
    #[arg(value_name = "NAME|FILE", default_value = "quickstart")]
    sweep: String,
    /// Folder of the sweep; default: runs/NAME
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write a sweep file with comments, to begin with, and stop
    #[arg(long, value_name = "FILE", exclusive = true)]
    init: Option<PathBuf>,
    /// Print the runs and stop
    #[arg(long)]
    dry_run: bool,
    /// Runs at once on each device (with slurm: in all); on the CPU they share its cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Devices to spread the runs over: cpu, or cuda:0,cuda:1,…; default: that of the base run
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    devices: Vec<String>,
    /// Only runs whose setting has this value; the same key again adds a value
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Suites of scores that runs are judged by, with intervals and worthless dictionaries; several by
    /// commas; `all` are those that the sweep has data for
    #[arg(long, value_name = "SUITE", value_delimiter = ',', value_parser = suite_names())]
    suite: Vec<String>,
    /// What starts the runs; sbatch takes its options from [slurm] and from SBATCH_… variables
    #[arg(long, value_enum, default_value_t = Launcher::Local)]
    launcher: Launcher,
    /// With slurm: leave once the runs are submitted; the same command without it follows them
    #[arg(long)]
    detach: bool,
    /// Start a process that a signal has ended so many times again
    #[arg(long, value_name = "N", default_value_t = 1)]
    retries: u32,
    /// Stop a run that takes longer, such as 90s, 15m or 2h; another start goes on from there
    #[arg(long, value_name = "TIME", value_parser = limits::parse_time)]
    time_limit: Option<Duration>,
    /// Kill a run whose process holds more memory, such as 500MB or 16GB
    #[arg(long, value_name = "SIZE", value_parser = limits::parse_memory)]
    memory_limit: Option<u64>,
}

/// What starts the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Launcher {
    /// This machine
    Local,
    /// A SLURM cluster whose nodes see this folder
    Slurm,
}

fn suite_names() -> PossibleValuesParser {
    PossibleValuesParser::new(Suite::ALL.map(Suite::name).into_iter().chain([suites::ALL]))
}

pub(crate) fn run(workspace: &Workspace, args: &SweepArgs) -> Result<()> {
    if let Some(command) = &args.command {
        return commands::run(workspace, command);
    }
    if let Some(file) = &args.init {
        return init::write(file);
    }
    check(args)?;
    let load = || Plan::load(workspace, &args.sweep, &args.filter, &args.devices);
    let mut plan = load()?;
    if !args.dry_run
        && let Some(pictures) = plan.to_fetch()
    {
        pictures.fetch(workspace)?;
        plan = load()?;
    }
    if !args.suite.is_empty() {
        plan.suites = suites::resolve(&args.suite, &plan.config)?;
    }
    if plan.config.share && args.launcher == Launcher::Slurm {
        let expected = "--launcher local: each task of slurm trains one run";
        bail!(usage(format!("share: expected {expected}, got `share = true` with slurm")));
    }
    let default = || workspace.root().join("runs").join(&plan.name);
    let out = args.out.clone().unwrap_or_else(default);
    if args.dry_run {
        if args.launcher == Launcher::Local {
            let key = if args.devices.is_empty() { "training.device" } else { "--devices" };
            devices::check_present(key, &plan.devices)?;
        }
        plan.print(&out)?;
        halving::print(&plan)?;
        if args.launcher == Launcher::Slurm {
            slurm::print(&plan, &std::path::absolute(out)?, args.jobs)?;
        }
        return Ok(());
    }
    stop::install()?;
    carry_out(workspace, args, &plan, &out)
}

fn carry_out(workspace: &Workspace, args: &SweepArgs, plan: &Plan, out: &Path) -> Result<()> {
    let claimed = Claimed::claim(out)?;
    let out = claimed.out();
    folder::check(plan, out)?;
    if args.launcher == Launcher::Local && !slurm::submitted(out)?.is_empty() {
        let kept = out.join("slurm");
        bail!(usage(format!(
            "{}: array jobs of this sweep may be queued or running; --launcher slurm follows them \
             (where they are known to be over, delete that folder)",
            kept.display()
        )));
    }
    let done = do_runs(workspace, args, plan, out);
    if let Err(error) = &done
        && let Err(other) = tidy_up(&claimed, error)
    {
        note(&message(&other));
    }
    done
}

/// Leaves nothing of a sweep that has failed but its results; of one that was refused, nothing.
fn tidy_up(claimed: &Claimed, error: &anyhow::Error) -> Result<()> {
    program::drop_others(claimed.out(), &slurm::programs_in_use(claimed.out())?)?;
    if exit::is_usage(error) { claimed.leave() } else { Ok(()) }
}

/// Does what is left to do of the runs, and concludes.
fn do_runs(workspace: &Workspace, args: &SweepArgs, plan: &Plan, out: &Path) -> Result<()> {
    sae_config::write_toml(&out.join("sweep.toml"), &plan.config)?;
    let job = prepare(workspace, args, plan, out)?;
    job.set_aside_foreign(plan.selected())?;
    let pending: Vec<_> = plan.selected().filter(|run| job.finished(run).is_none()).collect();
    let n_selected = plan.selected().count();
    if plan.config.halving.is_none() {
        note(&format!("{} of {n_selected} runs to do, in {}", pending.len(), out.display()));
    }
    results::refresh(plan, &job)?;
    if !pending.is_empty() && launch(args, plan, &job, &pending)? == Outcome::Detached {
        return Ok(());
    }
    if stop::requested() {
        bail!(Interrupted);
    }
    let pages = pages::make(plan, &job)?;
    // The last that the program does.
    let n_apart = seeds::compare(&job, &results::refresh(plan, &job)?.runs)?;
    slurm::drop_finished(&job)?;
    program::drop_others(out, &slurm::programs_in_use(out)?)?;
    conclude::conclude(plan, &job, &pages, n_apart)
}

/// Carries out runs, by rungs where they are halved, or leaves them to a cluster.
fn launch(args: &SweepArgs, plan: &Plan, job: &Job, runs: &[&PlannedRun]) -> Result<Outcome> {
    let launch = |runs: &[&PlannedRun]| match args.launcher {
        Launcher::Local => {
            local::run(plan, job, runs, args.jobs.unwrap_or(1))?;
            Ok(Outcome::Ended)
        }
        Launcher::Slurm => {
            let options = slurm::Options { jobs: args.jobs, detach: args.detach };
            slurm::run(plan, job, runs, &options)
        }
    };
    match plan.config.halving {
        Some(_) => halving::run(plan, job, launch),
        None => launch(runs),
    }
}

/// Builds the program, makes the activations, and gives what all runs share.
fn prepare(workspace: &Workspace, args: &SweepArgs, plan: &Plan, out: &Path) -> Result<Job> {
    setup::ensure(workspace)?;
    note("building softsae");
    let built = process::build(workspace, "softsae")?;
    let activations = stores::prepare(workspace, plan, &built)?;
    let program = program::keep(out, &built)?;
    let mut in_use = slurm::programs_in_use(out)?;
    in_use.push(program.clone());
    program::drop_others(out, &in_use)?;
    let libraries = match workspace.is_bundle() {
        true => std::env::var("LD_LIBRARY_PATH").ok(),
        false => {
            let folder = workspace.target().join("libtorch/lib").canonicalize()?;
            Some(folder.to_str().context("libtorch: expected a folder in UTF-8")?.to_owned())
        }
    };
    let suites = Suites::prepare(workspace, plan, &activations, &program)?;
    Ok(Job {
        suites,
        out: out.to_owned(),
        program,
        libraries,
        inputs: plan.inputs(&activations)?,
        activations,
        maker: Maker::find(workspace),
        limits: Limits { time: args.time_limit, memory: args.memory_limit },
        retries: args.retries,
        whole: halving::whole(plan),
    })
}

/// Checks what the command line itself shows to be wrong.
fn check(args: &SweepArgs) -> Result<()> {
    let file = Path::new(&args.sweep);
    let is_file = args.sweep.ends_with(".toml") || args.sweep.contains('/');
    if is_file && !file.is_file() {
        bail!(usage(format!("{}: expected a sweep file, got none", file.display())));
    }
    if args.detach && args.launcher == Launcher::Local {
        bail!(usage("--detach: expected --launcher slurm with it, got the local one"));
    }
    devices::check_names(&args.devices)
}

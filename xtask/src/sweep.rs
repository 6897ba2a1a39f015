//! `sweep`: from a TOML file to trained, evaluated and reported runs, each in processes of its own.

mod child;
mod commands;
mod frontier;
mod job;
mod local;
mod metrics;
mod plan;
mod progress;
mod results;
mod runs_csv;
mod slurm;
mod state;
mod stop;
mod stores;
mod table;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use sae_config::RunStatus;

use crate::exit::{Interrupted, usage};
use crate::workspace::Workspace;
use crate::{process, setup};
use job::Job;
use plan::Plan;

pub(crate) use job::{OneRunArgs, run_one};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  cargo xtask sweep
  cargo xtask sweep quickstart --dry-run
  cargo xtask sweep my-sweep.toml --out runs/mine --filter architecture=soft --filter k=32
  SBATCH_PARTITION=long cargo xtask sweep my-sweep.toml --launcher slurm --jobs 8
  cargo xtask sweep status runs/mine --watch
  cargo xtask sweep logs runs/mine 3 --follow
  cargo xtask sweep rm runs/mine --failed
  cargo xtask sweep diff runs/mine runs/other")]
pub(crate) struct SweepArgs {
    #[command(subcommand)]
    command: Option<commands::Command>,
    /// A bundled sweep, or a file of one's own
    #[arg(value_name = "NAME|FILE", default_value = "quickstart")]
    sweep: String,
    /// Folder of the sweep; default: runs/NAME
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
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
    /// What starts the runs; sbatch takes its options from SBATCH_… variables
    #[arg(long, value_enum, default_value_t = Launcher::Local)]
    launcher: Launcher,
}

/// What starts the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Launcher {
    /// This machine
    Local,
    /// A SLURM cluster whose nodes see this folder
    Slurm,
}

pub(crate) fn run(workspace: &Workspace, args: &SweepArgs) -> Result<()> {
    if let Some(command) = &args.command {
        return commands::run(workspace, command);
    }
    check_devices(&args.devices)?;
    let plan = Plan::load(workspace, &args.sweep, &args.filter, &args.devices)?;
    let default = || workspace.root().join("runs").join(&plan.name);
    let out = args.out.clone().unwrap_or_else(default);
    if args.dry_run {
        return plan.print(&out);
    }
    stop::install()?;
    let result = carry_out(workspace, args, &plan, &out);
    if stop::requested() { Err(Interrupted.into()) } else { result }
}

fn carry_out(workspace: &Workspace, args: &SweepArgs, plan: &Plan, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let out = &out.canonicalize()?;
    let folder = File::open(out)?;
    if folder.try_lock().is_err() {
        bail!("{}: another sweep is at work in this folder", out.display());
    }
    sae_config::write_toml(&out.join("sweep.toml"), &plan.config)?;

    setup::ensure(workspace)?;
    eprintln!("building softsae");
    let program = process::build(workspace, "softsae")?;
    let activations = stores::prepare(workspace, plan, &program)?;
    let job = Job { out: out.clone(), program, activations };
    let pending: Vec<_> = plan.selected().filter(|run| job.finished(run).is_none()).collect();
    let n_selected = plan.selected().count();
    eprintln!("{} of {n_selected} runs to do, in {}", pending.len(), out.display());
    results::refresh(plan, &job)?;
    match args.launcher {
        _ if pending.is_empty() => {}
        Launcher::Local => local::run(&job, &pending, &plan.devices, args.jobs.unwrap_or(1))?,
        Launcher::Slurm => slurm::run(&job, &pending, &plan.devices, args.jobs)?,
    }
    if stop::requested() {
        bail!(Interrupted);
    }
    conclude(plan, &job)
}

/// Writes and prints the results; an error if a selected run has failed.
fn conclude(plan: &Plan, job: &Job) -> Result<()> {
    let results = results::collect(plan, job);
    results::write(&job.out, &results)?;
    let page = sae_report::write_report(&job.out)?;
    println!("{}", results::table(&results));
    if let Some(table) = frontier::table(&results) {
        println!("\n{table}\n");
    }
    println!("results: {}", job.out.join("results.csv").display());
    println!("report:  {}", page.display());
    let mut n_failed = 0;
    for run in plan.selected() {
        let result = job.result(run);
        if result.is_some_and(|result| result.status == RunStatus::Done) {
            continue;
        }
        n_failed += 1;
        let log = job.folder(&run.id).join("log.txt");
        eprintln!("\nrun {} ({}) failed; the end of {}:", run.id, run.point, log.display());
        eprintln!("{}", child::tail(&log, 20));
    }
    match n_failed {
        0 => Ok(()),
        n => bail!("{n} of {} runs failed", plan.selected().count()),
    }
}

fn check_devices(devices: &[String]) -> Result<()> {
    for device in devices {
        let ordinal = device.strip_prefix("cuda:").map(str::parse::<usize>);
        if !["cpu", "cuda"].contains(&device.as_str()) && !matches!(ordinal, Some(Ok(_))) {
            bail!(usage(format!("--devices: expected `cpu` or `cuda:N`, got `{device}`")));
        }
    }
    Ok(())
}

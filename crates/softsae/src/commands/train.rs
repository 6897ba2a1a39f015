//! `softsae train`: runs from their configurations to checkpoints.

mod failures;
mod profile;
mod reads;
mod told;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use sae_config::{CheckedRun, RunConfig};
use sae_data::{BatchSource, Error as DataError, Ports};
use sae_hosts::Live;
use sae_train::{
    CHECKPOINT_FOLDER, CONFIG_FILE, Opened, RunOptions, RunSummary, TRAINING_FOLDER, memory,
    open_stores, plan_together, run_device, train_runs,
};
use tch::Device;

use super::{check_apart, signs};
use crate::cli::TrainArgs;
use crate::failure::{Blame as _, Failure};
use crate::interrupt;
use crate::output::{note, say};
use failures::failure;
use profile::print_profile;
use reads::{inputs, say_if_elsewhere, say_of_target, store_ports};
use told::Told;

/// A run file.
struct Run {
    file: PathBuf,
    written: RunConfig,
    config: CheckedRun,
}

impl Run {
    fn read(file: &Path) -> Result<Self, Failure> {
        let mut written = RunConfig::read(file).or_usage()?;
        if let Some(live) = &mut written.data.live {
            live.host = sae_hosts::pin_host(&live.host).or_usage()?;
            live.corpus = sae_hosts::corpus::pin(&live.corpus).or_usage()?;
        }
        let config = written.check().or_usage()?;
        Ok(Self { file: file.to_owned(), written, config })
    }

    fn device(&self) -> Result<Device, Failure> {
        run_device(&self.config)
            .map_err(|error| Failure::usage(anyhow::anyhow!("{}: {error}", self.file.display())))
    }
}

pub(crate) fn run(args: &TrainArgs) -> Result<(), Failure> {
    let runs = args.config.iter().map(|file| Run::read(file)).collect::<Result<Vec<_>, _>>()?;
    let config = &runs[0].config;
    let device = runs[0].device()?;
    runs.iter().try_for_each(|run| run.device().map(drop))?;
    // Opened now, so that what cannot be is a mistake of usage.
    let live =
        config.data.live.is_some().then(|| open_live(config, device)).transpose().or_usage()?;
    let ports = match &live {
        Some(live) => live.ports().clone(),
        None => store_ports(config)?,
    };
    say_of_target(&ports)?;
    // Without --out there is only --plan, as clap sees to.
    if args.plan {
        let host = live.map_or(0, |live| live.host().weight_bytes());
        return print_plan(&runs, ports.as_ref().map(|port| port.dimension), host, device);
    }
    check_outs(&args.out, &runs)?;
    for (run, out) in runs.iter().zip(&args.out) {
        if let Some(init) = &run.config.training.init {
            say_if_elsewhere(init, &ports)?;
        }
        keep_written(&run.file, out)?;
    }
    let ended = train(&runs, live, &args.out, args.resume, device)?;
    conclude(&runs, &args.out, ended, args.profile)
}

/// Refuses folders that are not one a run, each of its own and no part of what is read.
fn check_outs(outs: &[PathBuf], runs: &[Run]) -> Result<(), Failure> {
    if outs.len() != runs.len() {
        let (n_runs, n_outs) = (runs.len(), outs.len());
        let error = anyhow::anyhow!("--out: expected one for each of {n_runs} runs, got {n_outs}");
        return Err(Failure::usage(error));
    }
    for (i, out) in outs.iter().enumerate() {
        let absolute = std::path::absolute(out).or_run()?;
        let is_same = |other: &&PathBuf| {
            let both = out.canonicalize().ok().zip(other.canonicalize().ok());
            both.is_some_and(|(a, b)| a == b)
                || std::path::absolute(other).is_ok_and(|other| other == absolute)
        };
        if let Some(other) = outs[..i].iter().find(is_same) {
            let other = other.display();
            let error = anyhow::anyhow!("--out: expected a folder for each run, got {other} twice");
            return Err(Failure::usage(error));
        }
        runs.iter().try_for_each(|run| check_apart(out, &inputs(&run.config)))?;
    }
    Ok(())
}

/// Trains, and tells how far it is.
fn train(
    runs: &[Run],
    live: Option<Live>,
    outs: &[PathBuf],
    resume: bool,
    device: Device,
) -> Result<Vec<sae_train::Result<RunSummary>>, Failure> {
    let configs: Vec<&RunConfig> = runs.iter().map(|run| &run.written).collect();
    let mut told = Told::new(&configs);
    let live = RefCell::new(live);
    let open = |config: &CheckedRun| -> sae_train::Result<Opened> {
        match &config.data.live {
            Some(_) => {
                let live = live.take().map_or_else(|| open_live(config, device), Ok);
                let live = live.map_err(|error| DataError::Source(Box::new(error)))?;
                Ok(Opened { source: Box::new(live), filtered: vec![], stores: None })
            }
            None => open_and_warn(config, outs),
        }
    };
    let options = RunOptions { open: &open, resume, stop: interrupt::flag() };
    let all: Vec<(&RunConfig, &Path)> =
        configs.into_iter().zip(outs.iter().map(PathBuf::as_path)).collect();
    let trained = train_runs(&all, &options, &mut |run, now: &sae_train::Progress<'_>| {
        told.at(run, now);
    });
    drop(told);
    trained.map_err(|error| failure(error, runs.iter().any(|run| run.starts_from_checkpoint())))
}

impl Run {
    fn starts_from_checkpoint(&self) -> bool {
        self.config.training.init.is_some()
    }
}

/// Tells how each run ended; the first failure is that of the command.
fn conclude(
    runs: &[Run],
    outs: &[PathBuf],
    ended: Vec<sae_train::Result<RunSummary>>,
    profiles: bool,
) -> Result<(), Failure> {
    let (mut first, n_runs) = (None, runs.len());
    for ((run, out), ended) in runs.iter().zip(outs).zip(ended) {
        match ended {
            Ok(summary) => {
                let (steps, seconds) = (summary.steps, summary.seconds);
                if let Some(step) = summary.resumed_at {
                    say!("went on from step {step}");
                }
                say!("{}: {steps} steps in {seconds:.1} s", summary.checkpoint.display());
                if profiles {
                    print_profile(summary.profile.as_ref());
                }
            }
            Err(error) => {
                let failure = failure(error, run.starts_from_checkpoint());
                match &first {
                    None if n_runs > 1 => first = Some(failure.of(out.display())),
                    None => first = Some(failure),
                    Some(_) => note!("error: {}: {failure}", out.display()),
                }
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// Opens the stores of a run, and says of one that begins what it will meet.
fn open_and_warn(config: &CheckedRun, outs: &[PathBuf]) -> sae_train::Result<Opened> {
    let opened = open_stores(config)?;
    let has_begun = |out: &PathBuf| {
        [CHECKPOINT_FOLDER, TRAINING_FOLDER].iter().any(|folder| out.join(folder).exists())
    };
    if let Some(stores) = opened.stores.as_ref().filter(|_| !outs.iter().any(has_begun)) {
        signs::warn(config, stores);
    }
    Ok(opened)
}

/// Opens the host and the corpus of a live run.
fn open_live(config: &CheckedRun, device: Device) -> sae_hosts::Result<Live> {
    let training = &config.training;
    Live::open(&config.data, training.batch_size, training.seed, device)
}

/// Keeps a run file that the resolved one is to replace, if it has comments, which would be lost.
fn keep_written(config: &Path, out: &Path) -> Result<(), Failure> {
    let resolved = out.join(CONFIG_FILE);
    let is_one = |a: &Path, b: &Path| {
        a.canonicalize().ok().is_some_and(|a| b.canonicalize().ok() == Some(a))
    };
    if !is_one(config, &resolved) {
        return Ok(());
    }
    let text = std::fs::read_to_string(config).or_usage()?;
    if text.contains('#') {
        let copy = out.join("run.written.toml");
        std::fs::copy(config, &copy).or_run()?;
        note!(
            "note: {} is replaced by the resolved one; it stays as {}",
            config.display(),
            copy.display()
        );
    }
    Ok(())
}

/// Prints what the runs would take together, and refuses those that cannot fit.
///
/// A live host is loaded by now, and its memory no longer free.
fn print_plan(
    runs: &[Run],
    dimensions: Ports<usize>,
    host: u64,
    device: Device,
) -> Result<(), Failure> {
    let configs = runs.iter().map(|run| &run.config);
    let Some(plan) = plan_together(configs, dimensions).or_usage()? else { return Ok(()) };
    let plan = plan.with_host(host);
    say!("{:12} {}\n{}", "engine", plan.engine, plan.to_string().trim_end());
    let Some(memory) = memory(device).or_usage()? else { return Ok(()) };
    let free = memory.free + host;
    let (free_mega, total) = (free / 1_000_000, memory.total / 1_000_000);
    say!("{:12} {free_mega:>9} MB of {total} MB", "free");
    plan.check(&runs[0].config, free).or_usage()
}

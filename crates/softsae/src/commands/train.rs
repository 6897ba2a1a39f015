//! `softsae train`: a run from its configuration to a checkpoint.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sae_config::{CheckedRun, RunConfig};
use sae_data::{Error as DataError, Port, Ports, open_store};
use sae_models::{TrainedOn, checkpoint_origin};
use sae_train::{
    CONFIG_FILE, Error, Filtered, Profile, RunOptions, memory, origin, plan, run_device, train_run,
};
use tch::Device;

use super::check_apart;
use crate::cli::TrainArgs;
use crate::failure::{Blame as _, Failure};
use crate::interrupt;
use crate::output::say;
use crate::progress::Progress;

pub(crate) fn run(args: &TrainArgs) -> Result<(), Failure> {
    let written = RunConfig::read(&args.config).or_usage()?;
    let config = written.check().or_usage()?;
    let device = run_device(&config)
        .map_err(|error| Failure::usage(anyhow::anyhow!("{}: {error}", args.config.display())))?;
    let dimensions = open_stores(&config)?;
    // Without --out there is only --plan, as clap sees to.
    let Some(out) = args.out.as_ref().filter(|_| !args.plan) else {
        return print_plan(&config, dimensions, device);
    };
    if let Some(init) = &config.training.init {
        say_if_elsewhere(init, &config)?;
    }
    let data = &config.data;
    let single = [&data.store].into_iter().filter(|store| !store.as_os_str().is_empty());
    let stores = single.chain(data.stores.iter().map(|store| &store.path)).chain(&data.target);
    let inputs: Vec<&Path> = stores.chain(&config.training.init).map(PathBuf::as_path).collect();
    check_apart(out, &inputs)?;
    keep_written(&args.config, out)?;
    let mut progress = Progress::new("train", "steps", config.training.steps);
    let mut message = String::new();
    let mut is_first = true;
    let observer = &mut |now: &sae_train::Progress<'_>| {
        for Filtered { key, before, kept } in now.filtered.iter().filter(|_| is_first) {
            // The run goes on when nobody listens any more.
            let _ = writeln!(std::io::stderr(), "data.{key}: kept {kept} of {before} rows");
        }
        is_first = false;
        if let Some(line) = now.logged {
            let report = &line.report;
            message = format!("loss {:.4} L0 {:.1}", report.loss, report.l0);
        }
        progress.at(now.step, || message.clone());
    };
    let options = RunOptions { resume: args.resume, stop: interrupt::flag() };
    let trained = train_run(&written, out, &options, observer);
    drop(progress);
    let summary = trained.map_err(|error| match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Config(_) | Error::Exists { .. } | Error::OtherRun { .. } => Failure::usage(error),
        Error::OtherLength { .. } | Error::MixedStores { .. } | Error::Init { .. } => {
            Failure::usage(error)
        }
        // What a checkpoint to start from says of itself; the run's own model is made here.
        Error::Model(_) if config.training.init.is_some() => Failure::usage(error),
        Error::Data(
            DataError::Locked { .. } | DataError::Value { .. } | DataError::NoMetadata { .. },
        ) => Failure::usage(error),
        other => Failure::run(other),
    })?;
    let (steps, seconds) = (summary.steps, summary.seconds);
    if let Some(step) = summary.resumed_at {
        say!("went on from step {step}");
    }
    say!("{}: {steps} steps in {seconds:.1} s", summary.checkpoint.display());
    if args.profile {
        print_profile(summary.profile.as_ref());
    }
    Ok(())
}

/// Says where a checkpoint to start from comes from another host or hook point: that is a transfer.
fn say_if_elsewhere(init: &Path, config: &CheckedRun) -> Result<(), Failure> {
    let of_init = checkpoint_origin(init).or_usage()?;
    let first = config.data.stores.first().map_or(&config.data.store, |store| &store.path);
    let say = |of_init: &TrainedOn, store: &Path| {
        let port = Port::of_store(open_store(store).or_usage()?.as_ref());
        for difference in of_init.elsewhere(&origin(&port).or_usage()?) {
            eprintln!("note: training.init: {}: {difference}", init.display());
        }
        Ok(())
    };
    say(&of_init, first)?;
    match (&of_init.target, &config.data.target) {
        (Some(of_init), Some(target)) => say(of_init, target),
        _ => Ok(()),
    }
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
        eprintln!(
            "note: {} is replaced by the resolved one; it stays as {}",
            config.display(),
            copy.display()
        );
    }
    Ok(())
}

/// Opens each store, so that one that cannot be is a mistake of usage; gives back the dimension of
/// each port.
fn open_stores(config: &CheckedRun) -> Result<Ports<usize>, Failure> {
    let single = config.data.stores.is_empty().then_some(&config.data.store);
    let dimension = |path: &PathBuf| Ok::<_, Failure>(open_store(path).or_usage()?.d_model());
    let mut input = 0;
    for path in single.into_iter().chain(config.data.stores.iter().map(|part| &part.path)) {
        input = dimension(path)?;
    }
    let target = config.data.target.as_ref().map(dimension).transpose()?;
    Ok(Ports { input, target })
}

/// Prints what the run would take, and refuses one that cannot fit.
fn print_plan(
    config: &CheckedRun,
    dimensions: Ports<usize>,
    device: Device,
) -> Result<(), Failure> {
    let plan = plan(config, dimensions).or_usage()?;
    say!("{:12} {}\n{}", "engine", plan.engine, plan.to_string().trim_end());
    let Some(memory) = memory(device).or_usage()? else { return Ok(()) };
    let (free, total) = (memory.free / 1_000_000, memory.total / 1_000_000);
    say!("{:12} {free:>9} MB of {total} MB", "free");
    plan.check(config, memory.free).or_usage()
}

/// Prints the mean time of each part of a step, and the peak of memory.
fn print_profile(profile: Option<&Profile>) {
    match profile {
        Some(profile) => {
            let total: f64 = profile.parts().map(|(_, time)| time.as_secs_f64()).sum();
            say!("{:24} {:>10}  share, mean of {} steps", "part", "ms", profile.steps());
            for (part, time) in profile.parts() {
                let time = time.as_secs_f64();
                say!("{part:24} {:>10.2}  {:.3}", time * 1e3, time / total);
            }
            say!("{:24} {:>10.2}", "step", total * 1e3);
        }
        None => say!("parts of a step: measured on the CPU only"),
    }
    if let Some(bytes) = peak_memory() {
        say!("{:24} {:>10} MB", "peak resident memory", bytes / 1_000_000);
    }
}

/// The most memory this process has held, where the system says so.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

//! `softsae train`: a run from its configuration to a checkpoint.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sae_config::{CheckedRun, HUB_PREFIX, RunConfig};
use sae_data::{BatchSource, Error as DataError, Port, Ports, open_store};
use sae_hosts::Live;
use sae_models::{TrainedOn, checkpoint_origin};
use sae_train::{
    CONFIG_FILE, Error, Filtered, Opened, Profile, RunOptions, RunSummary, memory, open_stores,
    origin, plan, run_device, train_run,
};
use tch::Device;

use super::check_apart;
use crate::cli::TrainArgs;
use crate::failure::{Blame as _, Failure};
use crate::interrupt;
use crate::output::{note, say};
use crate::progress::Progress;

pub(crate) fn run(args: &TrainArgs) -> Result<(), Failure> {
    let mut written = RunConfig::read(&args.config).or_usage()?;
    if let Some(live) = &mut written.data.live {
        live.corpus = sae_hosts::corpus::pin(&live.corpus).or_usage()?;
    }
    let config = written.check().or_usage()?;
    let device = run_device(&config)
        .map_err(|error| Failure::usage(anyhow::anyhow!("{}: {error}", args.config.display())))?;
    // Opened now, so that what cannot be is a mistake of usage.
    let live =
        config.data.live.is_some().then(|| open_live(&config, device)).transpose().or_usage()?;
    let ports = match &live {
        Some(live) => live.ports().clone(),
        None => store_ports(&config)?,
    };
    // Without --out there is only --plan, as clap sees to.
    let Some(out) = args.out.as_ref().filter(|_| !args.plan) else {
        return print_plan(&config, ports.as_ref().map(|port| port.dimension), device);
    };
    if let Some(init) = &config.training.init {
        say_if_elsewhere(init, &ports)?;
    }
    check_apart(out, &inputs(&config))?;
    keep_written(&args.config, out)?;
    let summary = train(&written, live, out, args.resume, device)?;
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

/// Trains with a line for each filter of the data, each time that a corpus is read to its end, and
/// the progress.
fn train(
    written: &RunConfig,
    live: Option<Live>,
    out: &Path,
    resume: bool,
    device: Device,
) -> Result<RunSummary, Failure> {
    let training = &written.training;
    let mut progress = Progress::new("train", "steps", training.steps);
    let (mut message, mut is_first) = (String::new(), true);
    let (mut epochs, mut skipped) = (0, 0);
    // The run goes on when nobody listens any more.
    let tell = |line: String| drop(writeln!(std::io::stderr(), "{line}"));
    let observer = &mut |now: &sae_train::Progress<'_>| {
        for Filtered { key, before, kept } in now.filtered.iter().filter(|_| is_first) {
            tell(format!("data.{key}: kept {kept} of {before} rows"));
        }
        is_first = false;
        if let Some(line) = now.logged {
            let report = &line.report;
            message = format!("loss {:.4} L0 {:.1}", report.loss, report.l0);
            let epoch = line.epoch.filter(|epoch| written.data.live.is_some() && *epoch > epochs);
            if let Some(epoch) = epoch {
                tell(format!("data.corpus: read to its end, {epoch} times so far"));
                (epochs, skipped) = (epoch, 0);
            }
            if let Some(n) = line.skipped.filter(|n| *n > skipped) {
                tell(format!("data.corpus: {n} damaged files and documents left out so far"));
                skipped = n;
            }
        }
        progress.at(now.step, || message.clone());
    };
    let live = RefCell::new(live);
    let open = |config: &CheckedRun| -> sae_train::Result<Opened> {
        match &config.data.live {
            Some(_) => {
                let live = live.take().map_or_else(|| open_live(config, device), Ok);
                let live = live.map_err(|error| DataError::Source(Box::new(error)))?;
                Ok(Opened { source: Box::new(live), filtered: vec![] })
            }
            None => open_stores(config),
        }
    };
    let options = RunOptions { open: &open, resume, stop: interrupt::flag() };
    let trained = train_run(written, out, &options, observer);
    drop(progress);
    trained.map_err(|error| failure(error, training.init.is_some()))
}

/// Whose failure an error of a run is; `from_init` where it starts from a checkpoint.
fn failure(error: Error, from_init: bool) -> Failure {
    match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Config(_) | Error::Exists { .. } | Error::OtherRun { .. } => Failure::usage(error),
        Error::OtherLength { .. } | Error::MixedStores { .. } | Error::Init { .. } => {
            Failure::usage(error)
        }
        // What a checkpoint to start from says of itself; the run's own model is made here.
        Error::Model(_) if from_init => Failure::usage(error),
        Error::Data(
            DataError::Locked { .. } | DataError::Value { .. } | DataError::NoMetadata { .. },
        ) => Failure::usage(error),
        Error::Data(DataError::Source(ref source)) if is_input(&**source) => Failure::usage(error),
        other => Failure::run(other),
    }
}

/// Whether a host says that it was given what it cannot read.
fn is_input(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(sae_hosts::Error::Input { .. }))
}

/// Opens the host and the corpus of a live run.
fn open_live(config: &CheckedRun, device: Device) -> sae_hosts::Result<Live> {
    let training = &config.training;
    Live::open(&config.data, training.batch_size, training.seed, device)
}

/// The files and folders that a run reads.
fn inputs(config: &CheckedRun) -> Vec<&Path> {
    let data = &config.data;
    let single = Some(data.store.as_path()).filter(|store| !store.as_os_str().is_empty());
    let stores = data.stores.iter().map(|store| store.path.as_path());
    let others = [&data.target, &data.rows, &config.training.init].into_iter().flatten();
    let live = data.live.iter().flat_map(|live| {
        let corpus = live.corpus.path.iter().filter(|path| !path.starts_with(HUB_PREFIX));
        std::iter::once(live.host.as_path()).chain(corpus.map(Path::new))
    });
    single.into_iter().chain(stores).chain(others.map(PathBuf::as_path)).chain(live).collect()
}

/// Says where a checkpoint to start from comes from another host or hook point: that is a transfer.
fn say_if_elsewhere(init: &Path, ports: &Ports<Port>) -> Result<(), Failure> {
    let of_init = checkpoint_origin(init).or_usage()?;
    let say = |of_init: &TrainedOn, port: &Port| {
        for difference in of_init.elsewhere(&origin(port).or_usage()?) {
            note!("note: training.init: {}: {difference}", init.display());
        }
        Ok(())
    };
    say(&of_init, &ports.input)?;
    match (&of_init.target, &ports.target) {
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
        note!(
            "note: {} is replaced by the resolved one; it stays as {}",
            config.display(),
            copy.display()
        );
    }
    Ok(())
}

/// Opens each store, so that one that cannot be is a mistake of usage; gives back the ports, that of
/// the input being of the first store.
fn store_ports(config: &CheckedRun) -> Result<Ports<Port>, Failure> {
    let port = |path: &PathBuf| Ok::<_, Failure>(Port::of_store(&*open_store(path).or_usage()?));
    let data = &config.data;
    let single = data.stores.is_empty().then_some(&data.store);
    let all = single.into_iter().chain(data.stores.iter().map(|part| &part.path));
    let mut ports = all.map(port).collect::<Result<Vec<_>, _>>()?.into_iter();
    let input = ports.next().expect("a configuration names a store");
    Ok(Ports { input, target: data.target.as_ref().map(port).transpose()? })
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

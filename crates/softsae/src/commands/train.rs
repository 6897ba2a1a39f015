//! `softsae train`: a run from its configuration to a checkpoint.

use sae_config::RunConfig;
use sae_data::open_store;
use sae_train::{Error, RunOptions, train_run};

use super::device;
use crate::cli::TrainArgs;
use crate::failure::{Blame as _, Failure};
use crate::interrupt;
use crate::progress::Progress;

pub(crate) fn run(args: &TrainArgs) -> Result<(), Failure> {
    let config = RunConfig::read(&args.config).or_usage()?;
    device(&config.training.device)?;
    open_store(&config.data.store).or_usage()?;
    let mut progress = Progress::new("train", "steps", config.training.steps);
    let mut message = String::new();
    let observer = &mut |now: &sae_train::Progress<'_>| {
        if let Some(line) = now.logged {
            let report = &line.report;
            message = format!("loss {:.4} L0 {:.1}", report.loss, report.l0);
        }
        progress.at(now.step, || message.clone());
    };
    let options = RunOptions { resume: args.resume, stop: interrupt::flag() };
    let trained = train_run(&config, &args.out, &options, observer);
    drop(progress);
    let summary = trained.map_err(|error| match error {
        Error::Interrupted { .. } => Failure::Interrupted(error.to_string()),
        Error::Config(_) | Error::Exists { .. } | Error::OtherRun { .. } => Failure::usage(error),
        other => Failure::run(other),
    })?;
    let (steps, seconds) = (summary.steps, summary.seconds);
    println!("{}: {steps} steps in {seconds:.1} s", summary.checkpoint.display());
    Ok(())
}

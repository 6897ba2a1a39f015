//! A run that a job scheduler starts, from a file that says all that it takes.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sae_config::{RunConfig, read_json};
use serde::{Deserialize, Serialize};

use super::job::{Job, Place};
use super::stop;
use crate::exit::usage;

/// A prepared run, for a job scheduler to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) id: String,
    pub(super) config: RunConfig,
    pub(super) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct OneRunArgs {
    /// A prepared run
    task: PathBuf,
}

/// Carries out a prepared run, with as many threads as the scheduler gives it processors.
pub(crate) fn run_one(args: &OneRunArgs) -> Result<()> {
    stop::install()?;
    let mut task: Task = read_json(&args.task)?;
    task.place.threads = task.place.threads.or(processors()?);
    let result = task.job.carry_out(&task.id, &task.config, &task.place, |_| ());
    let result = result.with_context(|| format!("run {}", task.id))?;
    match (result.evaluation, result.failure) {
        (Some(_), _) => Ok(()),
        (None, Some(failure)) => bail!("run {}: {failure}", task.id),
        (None, None) => bail!("run {} failed", task.id),
    }
}

/// Processors that SLURM gives a task.
fn processors() -> Result<Option<usize>> {
    for name in ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"] {
        let Ok(value) = std::env::var(name) else { continue };
        return match value.parse() {
            Ok(n) if n > 0 => Ok(Some(n)),
            _ => bail!(usage(format!("{name}: expected a number of processors, got `{value}`"))),
        };
    }
    Ok(None)
}

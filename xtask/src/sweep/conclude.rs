//! The end of a sweep: its tables, and the runs that have failed.

use std::path::PathBuf;

use anyhow::{Result, bail};
use sae_config::RunStatus;

use super::job::Job;
use super::plan::Plan;
use super::{child, frontier, pointed, results};
use crate::exit::note;

/// Ends of logs that are shown at most.
const MOST_LOGS: usize = 5;

/// Writes and prints the results and where feature pages are; an error if a selected run has failed, or
/// if `n_apart` pairs of seeds could not be compared.
pub(super) fn conclude(
    plan: &Plan,
    job: &Job,
    pages: &[(String, PathBuf)],
    n_apart: usize,
) -> Result<()> {
    let results = results::refresh(plan, job)?;
    let page = sae_report::write_report(&job.out)?;
    say!("{}", results::table(&results));
    if let Some(table) = frontier::table(&results) {
        say!("\n{table}\n");
    }
    if let Some(table) = pointed::table(&results) {
        say!("{table}\n");
    }
    say!("results: {}", job.out.join("results.csv").display());
    say!("report:  {}", page.display());
    for (name, page) in pages {
        say!("features of {name}: {}", page.display());
    }
    let mut n_failed = 0;
    for run in plan.selected() {
        let result = job.result(run);
        let status = result.as_ref().map(|result| result.status);
        let is_measured = result.as_ref().is_some_and(|result| job.suites.are_measured(result));
        match status {
            Some(RunStatus::Dropped) => continue,
            Some(RunStatus::Done) if is_measured => continue,
            _ => {}
        }
        n_failed += 1;
        let failure = result.and_then(|result| result.failure);
        let none = match status {
            Some(RunStatus::Done) => "a suite was not measured",
            _ => "no result",
        };
        let failure = failure.unwrap_or_else(|| none.into());
        let log = job.folder(&run.id).join("log.txt");
        note(&format!("\nrun {} ({}) failed: {failure}", run.id, run.point));
        if n_failed <= MOST_LOGS {
            note(&format!("the end of {}:\n{}", log.display(), child::tail(&log, 20)));
        }
    }
    match n_failed {
        0 if n_apart > 0 => bail!("{n_apart} pairs of seeds could not be compared"),
        0 => Ok(()),
        n => bail!("{n} of {} runs failed", plan.selected().count()),
    }
}

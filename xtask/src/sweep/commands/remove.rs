//! `sweep rm`: removes the folders of runs.

use std::fs::File;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sae_config::RunStatus;

use super::super::{folder::discard, slurm};
use super::opened::{Sweep, folder};
use crate::exit::{note, usage};
use crate::workspace::Workspace;

/// What the folder of a run is called while it is removed.
const REMOVED: &str = ".removed-";

#[derive(Debug, Args)]
pub(in crate::sweep) struct RemoveArgs {
    /// The folder of a sweep, or the name of one in runs/
    dir: PathBuf,
    /// Runs: numbers in `sweep status`, ids, or the first characters of them
    #[arg(value_name = "RUN", required_unless_present = "failed")]
    runs: Vec<String>,
    /// All failed and stale runs
    #[arg(long)]
    failed: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(workspace: &Workspace, args: &RemoveArgs) -> Result<()> {
    let sweep = Sweep::open(workspace, &args.dir)?;
    let ids = chosen(&sweep, &args.runs, args.failed)?;
    if ids.is_empty() {
        say!("no run has failed");
        return Ok(());
    }
    let live = slurm::live(&sweep.out).context("which runs SLURM is at is not known")?;
    if let Some((id, words)) = ids.iter().find_map(|id| live.get_key_value(id)) {
        bail!("run {id}: SLURM has it ({words}); nothing was removed");
    }
    if !args.yes && !is_confirmed(&sweep, &ids)? {
        bail!("nothing was removed");
    }
    remove(&sweep, &ids)?;
    say!("removed {}; the next start of the sweep does again what it has of them", ids.join(", "));
    sweep.refresh()
}

/// The ids of the runs to remove, each once, that have a folder.
fn chosen(sweep: &Sweep, runs: &[String], failed: bool) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for run in runs {
        let id = sweep.find(run)?;
        if !folder(sweep, &id).is_dir() {
            bail!(usage(format!("run {id} has no folder: there is nothing to remove")));
        }
        ids.push(id);
    }
    if failed {
        let is_failed = |status| matches!(status, RunStatus::Failed | RunStatus::Stale);
        let failed = sweep.results.runs.iter().filter(|run| is_failed(run.status));
        ids.extend(failed.map(|run| run.run_id.clone()).filter(|id| folder(sweep, id).is_dir()));
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn is_confirmed(sweep: &Sweep, ids: &[String]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!(usage("expected --yes, or a terminal to ask at"));
    }
    let labels = sweep.labels();
    for (run, label) in sweep.results.runs.iter().zip(&labels) {
        if ids.contains(&run.run_id) {
            note(&format!("{}  {}  {label}", run.run_id, run.status.name()));
        }
    }
    // Who does not see the question does not answer it.
    write!(std::io::stderr(), "remove the folders of {} runs? [y/N] ", ids.len())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Removes the folders of runs, of all or of none where a process is at work on one.
fn remove(sweep: &Sweep, ids: &[String]) -> Result<()> {
    let mut held = Vec::new();
    for id in ids {
        let log = folder(sweep, id).join("log.txt");
        if log.exists() {
            let file = File::options()
                .append(true)
                .open(&log)
                .with_context(|| log.display().to_string())?;
            if file.try_lock().is_err() {
                bail!("run {id}: a process is at work on it; nothing was removed");
            }
            // Held until the folder is gone, so that none begins meanwhile.
            held.push(file);
        }
    }
    let runs = sweep.out.join("runs");
    for id in ids {
        let gone = runs.join(format!("{REMOVED}{id}"));
        discard(&gone)?;
        let own = folder(sweep, id);
        // A kill in the midst leaves no half of a run under its name.
        std::fs::rename(&own, &gone).with_context(|| own.display().to_string())?;
        discard(&gone)?;
    }
    drop(held);
    Ok(())
}

#[cfg(test)]
mod tests {
    use sae_config::{RunResult, SweepResults, read_json, write_json};

    use super::super::super::tests::measured;
    use super::*;

    /// A sweep of three runs, of which the second has failed.
    fn sweep() -> (tempfile::TempDir, Sweep) {
        let out = tempfile::tempdir().unwrap();
        let mut runs: Vec<RunResult> = (0..3)
            .map(|seed| RunResult { run_id: format!("run{seed}"), ..measured(4, seed, 0.5) })
            .collect();
        runs[1].status = RunStatus::Failed;
        runs[1].evaluation = None;
        for run in &runs {
            let own = out.path().join("runs").join(&run.run_id);
            std::fs::create_dir_all(&own).unwrap();
            write_json(&own.join("result.json"), run).unwrap();
            std::fs::write(own.join("log.txt"), "x").unwrap();
        }
        let results = SweepResults { name: "mine".into(), runs, ..SweepResults::default() };
        write_json(&out.path().join("results.json"), &results).unwrap();
        let opened = Sweep::open(&Workspace::find(), out.path()).unwrap();
        (out, opened)
    }

    #[test]
    fn failed_runs_are_removed_and_the_results_say_so() {
        let (out, sweep) = sweep();
        let ids = chosen(&sweep, &[], true).unwrap();
        assert_eq!(ids, ["run1"]);
        remove(&sweep, &ids).unwrap();
        sweep.refresh().unwrap();
        let mut left: Vec<_> =
            out.path().join("runs").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["run0", "run2"]);
        let results: SweepResults = read_json(&out.path().join("results.json")).unwrap();
        let statuses: Vec<_> = results.runs.iter().map(|run| run.status).collect();
        assert_eq!(statuses, [RunStatus::Done, RunStatus::Pending, RunStatus::Done]);
        assert!(out.path().join("report.html").exists());
        let error = chosen(&sweep, &["run1".into()], false).unwrap_err().to_string();
        assert!(error.contains("nothing to remove"), "{error}");
    }

    #[test]
    fn a_run_that_a_process_holds_keeps_all() {
        let (out, sweep) = sweep();
        let log = File::open(out.path().join("runs/run2/log.txt")).unwrap();
        log.lock().unwrap();
        let ids = chosen(&sweep, &["1".into(), "run2".into(), "run0".into()], false).unwrap();
        assert_eq!(ids, ["run0", "run2"]);
        let error = remove(&sweep, &ids).unwrap_err().to_string();
        assert!(error.contains("run2: a process is at work"), "{error}");
        assert!(out.path().join("runs/run0/result.json").exists());
        drop(log);
        remove(&sweep, &ids).unwrap();
        assert!(!out.path().join("runs/run0").exists());
    }

    #[test]
    fn what_a_killed_removal_left_is_no_run_and_goes_with_the_next() {
        let (out, sweep) = sweep();
        let half = out.path().join("runs/.removed-run0");
        std::fs::create_dir_all(half.join("training")).unwrap();
        assert!(Sweep::open(&Workspace::find(), out.path()).unwrap().others.is_empty());
        remove(&sweep, &["run0".into()]).unwrap();
        assert!(!half.exists());
    }
}

//! `sweep status`: how many runs are done, and how far the others are.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use sae_config::{RunResult, RunStatus};

use super::super::child;
use super::super::metrics::Metrics;
use super::super::slurm;
use super::super::table::{align, counts};
use super::opened::{Sweep, folder};
use crate::exit::usage;
use crate::workspace::Workspace;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Pending runs that are listed; they are all alike.
const MAX_PENDING: usize = 10;

#[derive(Debug, Args)]
pub(in crate::sweep) struct StatusArgs {
    /// The folder of a sweep, or the name of one in runs/
    dir: PathBuf,
    /// Show it anew every two seconds, until every run has ended
    #[arg(long)]
    watch: bool,
}

pub(super) fn run(workspace: &Workspace, args: &StatusArgs) -> Result<()> {
    if args.watch && !std::io::stdout().is_terminal() {
        bail!(usage("--watch: expected a terminal, got a file or pipe"));
    }
    loop {
        let mut sweep = Sweep::open(workspace, &args.dir)?;
        let live = slurm::live(&sweep.out).unwrap_or_else(|e| {
            sweep.notes.push(format!("what SLURM does is not known: {e:#}"));
            BTreeMap::new()
        });
        let text = describe(&sweep, &live);
        if !args.watch {
            return super::show(&text);
        }
        // Clears the screen and begins at its top.
        say!("\x1b[2J\x1b[H{text}");
        std::io::stdout().flush()?;
        if sweep.results.runs.iter().all(has_ended) {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

fn has_ended(run: &RunResult) -> bool {
    matches!(
        run.status,
        RunStatus::Done | RunStatus::Dropped | RunStatus::Failed | RunStatus::Stale
    )
}

/// The status of a sweep as it is shown; `live` has what SLURM says of runs.
fn describe(sweep: &Sweep, live: &BTreeMap<String, String>) -> String {
    let runs = &sweep.results.runs;
    let parts = counts(runs.iter()).into_iter().map(|(status, n)| format!("{n} {}", status.name()));
    let mut text = format!("sweep {} in {}", sweep.results.name, sweep.out.display());
    let started =
        runs.iter().filter_map(|run| Some(run.provenance.as_ref()?.started.as_str())).min();
    text += &started.map_or_else(String::new, |started| format!(", first run started {started}"));
    text += &format!("\n{} runs: {}", runs.len(), parts.collect::<Vec<_>>().join(", "));
    if let Some(seconds) = seconds_left(sweep) {
        text +=
            &format!("\nabout {} of training left, by the mean of the runs done", time(seconds));
    }
    let labels = sweep.labels();
    if let Some(rows) = unfinished(sweep, &labels, live) {
        text += &format!("\n\n{}", align(&rows));
    }
    let n_pending = runs.iter().filter(|run| run.status == RunStatus::Pending).count();
    if n_pending > MAX_PENDING {
        text += &format!("\n… and {} more pending", n_pending - MAX_PENDING);
    }
    for (index, run) in runs.iter().enumerate() {
        if matches!(run.status, RunStatus::Failed | RunStatus::Stale) {
            let (number, id, status) = (number(sweep, index), &run.run_id, run.status.name());
            text +=
                &format!("\n\n{number}  {id}  {}: {status}: {}", labels[index], reason(sweep, run));
        }
    }
    for note in &sweep.notes {
        text += &format!("\n\n{note}");
    }
    if !sweep.others.is_empty() {
        let others = sweep.others.join(", ");
        text += &format!("\n\nin runs/, but no run of this sweep: {others}");
    }
    text
}

/// Why a run has no result: what is known of it, else the end of its log.
fn reason(sweep: &Sweep, run: &RunResult) -> String {
    let log = folder(sweep, &run.run_id).join("log.txt");
    let end = child::tail(&log, 3).replace('\n', "\n    ");
    match &run.failure {
        Some(failure) if run.status == RunStatus::Stale || end.is_empty() => failure.clone(),
        Some(failure) => format!("{failure}\n    {end}"),
        None if end.is_empty() => "no log".into(),
        None => end,
    }
}

/// The number of a run, where runs have numbers.
fn number(sweep: &Sweep, index: usize) -> String {
    if sweep.has_numbers() { (index + 1).to_string() } else { "–".into() }
}

/// A row for each run that has not ended; of the pending the first few.
fn unfinished(
    sweep: &Sweep,
    labels: &[String],
    live: &BTreeMap<String, String>,
) -> Option<Vec<Vec<String>>> {
    let width = sweep.results.runs.first().map_or(0, |run| run.run_id.len());
    let first = format!("{:>4}  {:<width$}  settings", "#", "run");
    let mut header = vec![first];
    header.extend(["status", "steps", "steps/s", "left"].map(str::to_owned));
    let mut rows = vec![header];
    let mut n_pending = 0;
    let order = |status| RunStatus::ALL.iter().position(|other| *other == status);
    let mut runs: Vec<_> =
        sweep.results.runs.iter().enumerate().filter(|(_, run)| !has_ended(run)).collect();
    runs.sort_by_key(|(_, run)| order(run.status));
    for (index, run) in runs {
        n_pending += usize::from(run.status == RunStatus::Pending);
        if run.status == RunStatus::Pending && n_pending > MAX_PENDING {
            continue;
        }
        let steps = run.config.training.steps;
        let done = sweep.results.steps_done.get(&run.run_id).copied().unwrap_or(0);
        let metrics = Metrics::last(&folder(sweep, &run.run_id).join("metrics.jsonl"));
        let rate = metrics.filter(|_| run.status == RunStatus::Running && done < steps);
        let rate = rate
            .and_then(|m| m.rows_per_second())
            .map(|r| r / run.config.training.batch_size as f64);
        let left = rate.map(|rate| time(steps.saturating_sub(done) as f64 / rate));
        rows.push(vec![
            format!("{:>4}  {:<width$}  {}", number(sweep, index), run.run_id, labels[index]),
            match live.get(&run.run_id) {
                Some(words) => format!("{}, slurm: {words}", run.status.name()),
                None => run.status.name().into(),
            },
            format!("{done}/{steps}"),
            rate.map_or_else(String::new, |rate| format!("{rate:.1}")),
            left.unwrap_or_default(),
        ]);
    }
    (rows.len() > 1).then_some(rows)
}

/// Seconds that what is left would take one after another, at the mean rate of the runs done.
fn seconds_left(sweep: &Sweep) -> Option<f64> {
    let runs = &sweep.results.runs;
    let steps_left = |run: &RunResult| {
        let done = sweep.results.steps_done.get(&run.run_id).copied().unwrap_or(0);
        run.config.training.steps.saturating_sub(done)
    };
    let left: u64 = runs.iter().filter(|run| !has_ended(run)).map(steps_left).sum();
    let done = || runs.iter().filter(|run| run.status == RunStatus::Done);
    let seconds: f64 = done().map(|run| run.train_seconds).sum();
    let steps: u64 = done().map(|run| run.config.training.steps).sum();
    (left > 0 && steps > 0).then(|| seconds / steps as f64 * left as f64)
}

/// Seconds for people: `m:ss`, or `h:mm:ss`.
fn time(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use sae_config::{SweepResults, write_json};

    use super::super::super::tests::{known, measured};
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, expected) in
            [(0.4, "0:00"), (61.0, "1:01"), (3600.0, "1:00:00"), (90061.0, "25:01:01")]
        {
            assert_eq!(time(seconds), expected);
        }
    }

    #[test]
    fn every_kind_of_run_is_told() {
        let out = tempfile::tempdir().unwrap();
        let mut runs: Vec<RunResult> = (0..5)
            .map(|seed| RunResult { run_id: format!("run{seed}"), ..measured(4, seed, 0.5) })
            .collect();
        runs[1] = RunResult {
            status: RunStatus::Failed,
            evaluation: None,
            failure: Some("training: exit code 1".into()),
            ..runs[1].clone()
        };
        for run in &runs[..4] {
            std::fs::create_dir_all(out.path().join("runs").join(&run.run_id)).unwrap();
        }
        let file = |id: &str, name: &str| out.path().join("runs").join(id).join(name);
        for run in &runs[..2] {
            write_json(&file(&run.run_id, "result.json"), run).unwrap();
        }
        std::fs::write(file("run1", "log.txt"), "Cannot allocate\n").unwrap();
        let held = File::create(file("run2", "log.txt")).unwrap();
        held.lock().unwrap();
        std::fs::write(file("run2", "metrics.jsonl"), "{\"step\": 4, \"rows_per_second\": 4.0}\n")
            .unwrap();
        std::fs::write(file("run3", "log.txt"), "").unwrap();
        let results = SweepResults { name: "mine".into(), runs, ..SweepResults::default() };
        write_json(&out.path().join("results.json"), &results).unwrap();

        let live = [("run4".to_owned(), "pending (Priority)".to_owned())].into();
        let text = describe(&Sweep::open(&Workspace::find(), out.path()).unwrap(), &live);
        assert!(
            text.contains("5 runs: 1 done, 1 failed, 1 running, 1 stopped, 1 pending"),
            "{text}"
        );
        let line = |id: &str| text.lines().find(|line| line.contains(id)).unwrap();
        // 5 of 10 steps are done, at 4 rows a second in batches of 8.
        for part in ["running", "5/10", "0.5", "0:10", "topk k=4 seed=2"] {
            assert!(line("run2").contains(part), "{text}");
        }
        assert!(
            line("run3").contains("stopped")
                && line("run4").contains("pending, slurm: pending (Priority)")
        );
        assert!(
            text.contains("topk k=4 seed=1: failed: training: exit code 1\n    Cannot allocate"),
            "{text}"
        );
        // 10 steps took 12.5 s, and 25 are left.
        assert!(text.contains("about 0:31 of training left"), "{text}");
    }

    #[test]
    fn many_pending_runs_are_not_all_listed() {
        let runs: Vec<_> = (0..30)
            .map(|n| {
                let known = known(&format!("run{n}"));
                RunResult { status: RunStatus::Pending, run_id: known.id, ..measured(4, n, 0.5) }
            })
            .collect();
        let results = SweepResults { name: "mine".into(), runs, ..SweepResults::default() };
        let out = tempfile::tempdir().unwrap();
        write_json(&out.path().join("results.json"), &results).unwrap();
        let sweep = Sweep::open(&Workspace::find(), out.path()).unwrap();
        let text = describe(&sweep, &BTreeMap::new());
        assert!(text.contains("run9 ") && !text.contains("run10"), "{text}");
        assert!(text.contains("… and 20 more pending"), "{text}");
    }
}

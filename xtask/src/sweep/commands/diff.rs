//! `sweep diff`: in what two sweeps or two runs differ, in settings and in scores.

mod pairs;
mod scores;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use sae_config::{Provenance, RunResult};
use sae_report::Settings;

use super::super::table::align;
use super::opened::{Sweep, labels};
use crate::exit::{note, usage};
use crate::workspace::Workspace;
use pairs::pairs;
use scores::{SCORES, number, scores};

#[derive(Debug, Args)]
#[command(after_help = "A run is the folder of a sweep with the run's number or id behind it:
  cargo xtask sweep diff runs/mine/3 runs/mine/7")]
pub(in crate::sweep) struct DiffArgs {
    /// The folder of a sweep, or a run
    a: PathBuf,
    /// What it is compared with
    b: PathBuf,
}

/// Runs listed that have no counterpart.
const MAX_ALONE: usize = 10;

/// One of the two things that are compared.
enum Side {
    Sweep(Box<Sweep>),
    Run(Box<RunResult>),
}

pub(super) fn run(workspace: &Workspace, args: &DiffArgs) -> Result<()> {
    match (Side::open(workspace, &args.a)?, Side::open(workspace, &args.b)?) {
        (Side::Sweep(a), Side::Sweep(b)) => {
            a.notes.iter().chain(&b.notes).for_each(|line| note(line));
            let head = |letter, sweep: &Sweep| {
                format!("{letter}: sweep {} in {}", sweep.results.name, sweep.out.display())
            };
            let text = sweeps(&a.results.runs, &b.results.runs);
            super::show(&format!("{}\n{}\n{text}", head('A', &a), head('B', &b)))
        }
        (Side::Run(a), Side::Run(b)) => super::show(&runs(&a, &b)),
        _ => bail!(usage("expected two sweeps or two runs, got one of each")),
    }
}

impl Side {
    fn open(workspace: &Workspace, path: &Path) -> Result<Self> {
        let whole = Sweep::open(workspace, path).map(Box::new);
        if whole.is_ok() {
            return whole.map(Self::Sweep);
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return whole.map(Self::Sweep);
        };
        // The folder of a run lies in `runs/`.
        let parent =
            if parent.ends_with("runs") { parent.parent().unwrap_or(parent) } else { parent };
        let Ok(sweep) = Sweep::open(workspace, parent) else { return whole.map(Self::Sweep) };
        let id = sweep.find(&name.to_string_lossy())?;
        let run = sweep.results.runs.into_iter().find(|run| run.run_id == id);
        run.map(|run| Self::Run(Box::new(run)))
            .ok_or_else(|| usage(format!("{}: run {id} is none of the sweep", path.display())))
    }
}

/// Settings and scores of two runs side by side.
fn runs(a: &RunResult, b: &RunResult) -> String {
    let mut rows = vec![["", "A", "B"].map(str::to_owned).to_vec()];
    let mut row = |name: &str, a: String, b: String| rows.push(vec![name.into(), a, b]);
    row("run", a.run_id.clone(), b.run_id.clone());
    row("status", a.status.name().into(), b.status.name().into());
    for (key, a, b) in changes(&Settings::of(&a.config), &Settings::of(&b.config)) {
        row(&key, a, b);
    }
    for (name, value) in SCORES {
        let of = |run: &RunResult| run.evaluation.as_ref().and_then(value);
        if of(a).or(of(b)).is_some() {
            row(name, number(of(a)), number(of(b)));
        }
    }
    row("train seconds", format!("{:.1}", a.train_seconds), format!("{:.1}", b.train_seconds));
    let (made_a, made_b) = (makers(a.provenance.as_ref()), makers(b.provenance.as_ref()));
    for ((name, a), (_, b)) in made_a.into_iter().zip(made_b) {
        if a != b {
            row(name, a, b);
        }
    }
    align(&rows)
}

/// Keys whose values differ, with both; without those that in both follow from other settings.
fn changes(a: &Settings, b: &Settings) -> Vec<(String, String, String)> {
    let value = |run: &Settings, key: &str| run.get(key).unwrap_or("–").to_owned();
    // Also settings that only one of the architectures has.
    let mut keys: Vec<&String> = a.all().iter().chain(b.all()).map(|(key, _)| key).collect();
    let mut seen = BTreeSet::new();
    let follows = |key: &str| a.is_default(key) && b.is_default(key);
    keys.retain(|key| seen.insert(*key) && a.get(key) != b.get(key) && !follows(key));
    keys.into_iter().map(|key| (key.clone(), value(a, key), value(b, key))).collect()
}

fn makers(provenance: Option<&Provenance>) -> [(&'static str, String); 5] {
    let text = |of: fn(&Provenance) -> Option<&String>| {
        provenance.and_then(of).map_or_else(|| "unknown".into(), Clone::clone)
    };
    [
        ("version", text(|p| Some(&p.version))),
        ("revision", text(|p| p.revision.as_ref())),
        ("libtorch", text(|p| p.libtorch.as_ref())),
        ("device", text(|p| Some(&p.device))),
        ("host", text(|p| Some(&p.host))),
    ]
}

/// What differs between the runs of two sweeps that stand for each other.
fn sweeps(a: &[RunResult], b: &[RunResult]) -> String {
    let pairs = pairs(a, b);
    let settings = |runs: &[RunResult]| runs.iter().map(|run| Settings::of(&run.config)).collect();
    let (in_a, in_b): (Vec<Settings>, Vec<Settings>) = (settings(a), settings(b));
    let n_same = pairs.iter().filter(|&&(i, j)| a[i].run_id == b[j].run_id).count();
    let mut text = format!(
        "\n{} runs in A, {} in B; {} pairs, {n_same} of them the same run",
        a.len(),
        b.len(),
        pairs.len()
    );
    let mut counts: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for &(i, j) in &pairs {
        for change in changes(&in_a[i], &in_b[j]) {
            *counts.entry(change).or_default() += 1;
        }
    }
    for ((key, a, b), n) in counts {
        text += &format!("\n{key}: {a} in A, {b} in B ({n} of {} pairs)", pairs.len());
    }
    for (index, (name, _)) in makers(None).iter().enumerate() {
        let all = |runs: &[RunResult]| -> BTreeSet<String> {
            let made = runs.iter().filter_map(|run| run.provenance.as_ref());
            let mut all: BTreeSet<_> =
                made.map(|provenance| makers(Some(provenance))[index].1.clone()).collect();
            if all.is_empty() {
                all.insert("unknown".into());
            }
            all
        };
        let (in_a, in_b) = (all(a), all(b));
        if in_a != in_b {
            let list = |all: BTreeSet<String>| all.into_iter().collect::<Vec<_>>().join(", ");
            text += &format!("\n{name}: {} in A, {} in B", list(in_a), list(in_b));
        }
    }
    if let Some(rows) = scores(a, b, &pairs) {
        text += &format!("\n\n{}", align(&rows));
    }
    let (labels_a, labels_b) = (labels(a), labels(b));
    let alone = |letter: char, labels: &[String], paired: BTreeSet<usize>| {
        let left: Vec<_> = (0..labels.len()).filter(|at| !paired.contains(at)).collect();
        let shown = left.iter().take(MAX_ALONE);
        let mut text: String =
            shown.map(|&at| format!("\nonly in {letter}: {}", labels[at])).collect();
        if left.len() > MAX_ALONE {
            text += &format!("\n… and {} more only in {letter}", left.len() - MAX_ALONE);
        }
        text
    };
    let only_a = alone('A', &labels_a, pairs.iter().map(|pair| pair.0).collect());
    let only_b = alone('B', &labels_b, pairs.iter().map(|pair| pair.1).collect());
    if !(only_a.is_empty() && only_b.is_empty()) {
        text += &format!("\n{only_a}{only_b}");
    }
    text
}

#[cfg(test)]
mod tests {
    use sae_config::{SweepResults, write_json};

    use super::super::super::tests::{measured, result, with_lr};
    use super::*;

    #[test]
    fn sweeps_tell_settings_scores_and_what_is_alone() {
        let a = [with_lr(measured(4, 0, 0.5), 1e-4), with_lr(measured(8, 0, 0.75), 1e-4)];
        let b = [with_lr(measured(4, 0, 0.625), 1e-3), with_lr(measured(16, 0, 0.75), 1e-3)];
        let text = sweeps(&a, &b);
        for part in [
            "2 runs in A, 2 in B; 1 pairs, 0 of them the same run",
            "training.lr: 1e-4 in A, 0.001 in B (1 of 1 pairs)",
            "0.5000  0.6250  +0.1250",
            "only in A: topk k=8",
            "only in B: topk k=16",
        ] {
            assert!(text.replace("1e-3", "0.001").contains(part), "{part} in {text}");
        }
        let same = sweeps(&a, &a);
        assert!(
            same.contains("2 pairs, 2 of them") && same.contains('=') && !same.contains("only")
        );
    }

    #[test]
    fn two_runs_tell_what_differs_and_what_made_them() {
        let provenance = |version: &str| {
            Some(Provenance {
                version: version.into(),
                revision: None,
                libtorch: Some("2.13.0".into()),
                device: "a CPU".into(),
                host: "here".into(),
                started: "2026-01-01T00:00:00Z".into(),
                ended: "2026-01-01T00:01:00Z".into(),
            })
        };
        let a = RunResult { provenance: provenance("0.1.0"), ..measured(4, 0, 0.5) };
        let b = RunResult { provenance: provenance("0.2.0"), ..measured(8, 0, 0.75) };
        let text = runs(&a, &b);
        let line = |name: &str| text.lines().find(|line| line.starts_with(name));
        let words = |name: &str| -> Vec<&str> {
            line(name).unwrap_or_else(|| panic!("{name} in {text}")).split_whitespace().collect()
        };
        assert_eq!(words("architecture.k"), ["architecture.k", "4", "8"]);
        assert_eq!(words("R²"), ["R²", "0.5000", "0.7500"]);
        assert_eq!(words("version"), ["version", "0.1.0", "0.2.0"]);
        for same in ["host", "training.lr", "CE recovered"] {
            assert!(line(same).is_none(), "{same} in {text}");
        }
    }

    #[test]
    fn a_run_is_named_by_the_folder_of_its_sweep() {
        let out = tempfile::tempdir().unwrap();
        let own = out.path().join("runs/abcdef");
        std::fs::create_dir_all(&own).unwrap();
        write_json(&own.join("result.json"), &result("abcdef")).unwrap();
        let results =
            SweepResults { name: "x".into(), runs: vec![result("abcdef")], ..Default::default() };
        write_json(&out.path().join("results.json"), &results).unwrap();
        let open = |path: &Path| Side::open(&Workspace::find(), path);
        for name in ["1", "abcd", "runs/abcdef"] {
            let Side::Run(run) = open(&out.path().join(name)).unwrap() else { panic!("{name}") };
            assert_eq!(run.run_id, "abcdef");
        }
        assert!(matches!(open(out.path()).unwrap(), Side::Sweep(_)));
        let error = open(&out.path().join("2")).err().unwrap().to_string();
        assert!(error.contains("a number from 1 to 1"), "{error}");
        let error = open(Path::new("no/such")).err().unwrap().to_string();
        assert!(error.contains("no/such: expected the folder of a sweep"), "{error}");
    }
}

//! What a report tells: results, how they compare, training curves, configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use sae_config::{Profile, RunResult, RunStatus, SweepResults, read_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::unknown::unknown;
use crate::{Curves, EqualL0, Error, Groups, PointedL0, Result, SuiteScores};

/// Points a curve keeps at most: more than a chart has room for.
const MAX_POINTS: usize = 400;

/// Points that the curves of all runs share, so that a page of many runs stays light.
const ALL_POINTS: usize = 60_000;

/// Runs up to which the texts of their profiles are on the page.
const MAX_WITH_TEXTS: usize = 100;

/// Lines shown of the log of a run that did not end well.
const LOG_LINES: usize = 15;

/// The contents of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The runs.
    pub results: SweepResults,
    /// Which of them differ in nothing but sparsity and seed.
    pub groups: Groups,
    /// What the groups reach at equal L0.
    pub equal: Option<EqualL0>,
    /// What suites say of the runs.
    pub scores: Vec<SuiteScores>,
    /// The L0 that they point to.
    pub pointed: Option<PointedL0>,
    /// Training curves by run id.
    pub curves: BTreeMap<String, Curves>,
    /// The ends of the logs of failed, stopped and stale runs, by run id.
    pub logs: BTreeMap<String, String>,
    /// What processes of runs were started by, by run id.
    pub commands: BTreeMap<String, Vec<String>>,
    /// Where the feature pages of runs are, from the folder of the report, by run id.
    pub pages: BTreeMap<String, String>,
    /// What could not be read and is left out.
    pub notes: Vec<String>,
    /// The text of the sweep file.
    pub sweep: Option<String>,
}

impl Report {
    /// A report of results alone.
    #[must_use]
    pub fn new(mut results: SweepResults) -> Self {
        if results.runs.len() > MAX_WITH_TEXTS {
            for profile in results.runs.iter_mut().filter_map(profile) {
                profile.fewest.clear();
                profile.most.clear();
            }
        }
        let groups = Groups::of(&results.runs);
        let equal = EqualL0::of(&results.runs, &groups);
        let scores = SuiteScores::of(&results.runs);
        let pointed = PointedL0::of(&results.runs, &groups);
        Self {
            results,
            groups,
            equal,
            scores,
            pointed,
            curves: BTreeMap::new(),
            logs: BTreeMap::new(),
            commands: BTreeMap::new(),
            pages: BTreeMap::new(),
            notes: Vec::new(),
            sweep: None,
        }
    }

    /// Reads the files of a sweep folder.
    ///
    /// # Errors
    /// An error that names the file which is missing or broken.
    pub fn read(folder: &Path) -> Result<Self> {
        let (results, notes) = read_results(&folder.join("results.json"))?;
        let mut report = Self::with_files(results, folder)?;
        report.notes.splice(0..0, notes);
        Ok(report)
    }

    /// A report of results and of what else a sweep folder holds. A run without a metrics file has
    /// no curves; one with a broken file has none either, and a note says so.
    ///
    /// # Errors
    /// [`Error::Io`] for a `sweep.toml` that cannot be read.
    pub fn with_files(results: SweepResults, folder: &Path) -> Result<Self> {
        let mut report = Self::new(results);
        report.add_runs(folder);
        let path = folder.join("sweep.toml");
        if path.exists() {
            let text = std::fs::read_to_string(&path);
            report.sweep = Some(text.map_err(|source| Error::Io { path, source })?);
        }
        Ok(report)
    }

    /// Adds what lies in the folders of the runs.
    fn add_runs(&mut self, folder: &Path) {
        let max_points = MAX_POINTS.min(ALL_POINTS / self.results.runs.len().max(1)).max(2);
        for run in &self.results.runs {
            let own = folder.join("runs").join(&run.run_id);
            let path = own.join("metrics.jsonl");
            match path.exists().then(|| Curves::read(&path, max_points)) {
                None => {}
                Some(Ok(curves)) => drop(self.curves.insert(run.run_id.clone(), curves)),
                Some(Err(e)) => self.notes.push(format!("{e}; the run has no curves here")),
            }
            let path = own.join("result.json");
            let said = read_json::<Value>(&path).ok().and_then(|said| unknown(&said));
            self.notes.extend(said.map(|keys| format!("{}: {keys}", path.display())));
            let log = own.join("log.txt");
            let commands = last_commands(&log);
            if !commands.is_empty() {
                self.commands.insert(run.run_id.clone(), commands);
            }
            if features_of(folder, &run.run_id).is_file() {
                let page = features_of(Path::new(""), &run.run_id);
                self.pages.insert(run.run_id.clone(), page.display().to_string());
            }
            let is_shown =
                matches!(run.status, RunStatus::Failed | RunStatus::Stopped | RunStatus::Stale);
            if is_shown && let Some(end) = tail(&log, LOG_LINES) {
                self.logs.insert(run.run_id.clone(), end);
            }
        }
    }
}

/// Reads `results.json`, also of another version: a run that cannot be read is left out, and a
/// note says so.
///
/// # Errors
/// [`Error::Results`] where the file is missing or is no list of runs.
pub fn read_results(path: &Path) -> Result<(SweepResults, Vec<String>)> {
    #[derive(Deserialize)]
    struct Any {
        name: String,
        runs: Vec<Value>,
        #[serde(default)]
        steps_done: BTreeMap<String, u64>,
    }
    let any: Any = read_json(path)?;
    let (mut runs, mut notes) = (Vec::new(), Vec::new());
    for (index, run) in any.runs.into_iter().enumerate() {
        let id = run["run_id"].as_str().unwrap_or("without an id").to_owned();
        let place = format!("{}, run {} ({id})", path.display(), index + 1);
        notes.extend(unknown(&run).map(|keys| format!("{place}: {keys}")));
        let error = match serde_json::from_value::<RunResult>(run) {
            Ok(run) if is_name(&run.run_id) => {
                runs.push(run);
                continue;
            }
            Ok(_) => "expected a run_id that is the name of a folder".to_owned(),
            Err(error) => error.to_string(),
        };
        notes.push(format!("{place}: {error}; it is left out, the sweep started again adds it"));
    }
    Ok((SweepResults { name: any.name, runs, steps_done: any.steps_done }, notes))
}

/// Whether a text is the name of a folder, and no way to another place.
fn is_name(id: &str) -> bool {
    let mut parts = Path::new(id).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

fn profile(run: &mut RunResult) -> Option<&mut Profile> {
    run.evaluation.as_mut()?.profile.as_mut()
}

/// Where the feature pages of a run of a sweep are, if it has them.
#[must_use]
pub fn features_of(folder: &Path, run_id: &str) -> PathBuf {
    folder.join("runs").join(run_id).join("features/features.html")
}

/// The last of the commands of each kind that a log has, such as `train` and `eval`; each is a line
/// that begins with `$`.
fn last_commands(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let known = ["train", "eval", "features"];
        let kind = command.split(' ').find(|word| known.contains(word)).unwrap_or_default();
        commands.retain(|(other, _)| other != kind);
        commands.push((kind.to_owned(), command.to_owned()));
    }
    commands.into_iter().map(|(_, command)| command).collect()
}

/// The last lines of a text file, if it can be read.
fn tail(path: &Path, n_lines: usize) -> Option<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    Some(lines[lines.len().saturating_sub(n_lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{evaluated, run};

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn named(id: &str, seed: u64, status: RunStatus) -> RunResult {
        let run = run(&format!("architecture.k = 4\ntraining.seed = {seed}"));
        RunResult { run_id: id.into(), status, ..run }
    }

    #[test]
    fn a_broken_file_of_one_run_costs_that_run_its_curves() {
        let folder = tempfile::tempdir().unwrap();
        let good = evaluated(named("good", 0, RunStatus::Done), 4.0, 0.5);
        let runs =
            vec![good, named("bad", 1, RunStatus::Failed), named("new", 2, RunStatus::Pending)];
        let results = SweepResults { name: "x".into(), runs, ..SweepResults::default() };
        sae_config::write_json(&folder.path().join("results.json"), &results).unwrap();
        write(folder.path(), "runs/good/metrics.jsonl", "{\"step\": 1, \"loss\": 2}\n");
        let log = "$ x train a\nfine\n$ x eval b\n$ x train a --resume\n";
        write(folder.path(), "runs/good/log.txt", log);
        write(folder.path(), "runs/good/features/features.html", "");
        write(folder.path(), "runs/bad/metrics.jsonl", "\0\0\0\n{}\n");
        write(folder.path(), "runs/bad/log.txt", "one\nno memory\n");
        let report = Report::read(folder.path()).unwrap();
        assert_eq!(report.results, results);
        assert_eq!(report.curves.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(report.logs, [("bad".to_owned(), "one\nno memory".to_owned())].into());
        let commands = vec!["x eval b".to_owned(), "x train a --resume".to_owned()];
        assert_eq!(report.commands, [("good".to_owned(), commands)].into());
        let page = "runs/good/features/features.html".to_owned();
        assert_eq!(report.pages, [("good".to_owned(), page)].into());
        assert_eq!(report.notes.len(), 1);
        assert!(report.notes[0].contains("runs/bad/metrics.jsonl, line 1"), "{:?}", report.notes);
        assert_eq!(report.equal.unwrap().l0, [4.0]);
    }

    #[test]
    fn results_of_another_version_are_read_as_far_as_they_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut good = serde_json::to_value(named("good", 0, RunStatus::Done)).unwrap();
        good.as_object_mut().unwrap().remove("failure");
        let mut old = serde_json::to_value(named("old", 1, RunStatus::Done)).unwrap();
        old["config"]["training"]["flux"] = 1.into();
        let away = |id: &str| serde_json::to_value(named(id, 2, RunStatus::Done)).unwrap();
        let aways = ["../../etc", "/etc", "", "a/b"].map(away);
        let results = serde_json::json!({"name": "x", "runs": [old, good, 7]});
        let mut with_aways = results.clone();
        with_aways["runs"].as_array_mut().unwrap().extend(aways);
        write(folder.path(), "results.json", &with_aways.to_string());
        let (read, notes) = read_results(&folder.path().join("results.json")).unwrap();
        assert_eq!((read.runs.len(), notes.len()), (1, 6), "{notes:?}");
        assert!(notes[2].contains("run 4 (../../etc): expected a run_id that is"), "{notes:?}");
        write(folder.path(), "results.json", &results.to_string());
        let (read, notes) = read_results(&folder.path().join("results.json")).unwrap();
        assert_eq!(read.runs.iter().map(|r| r.run_id.as_str()).collect::<Vec<_>>(), ["good"]);
        assert!(notes[0].contains("run 1 (old)") && notes[0].contains("flux"), "{notes:?}");
        assert!(notes[1].contains("run 3 (without an id)"), "{notes:?}");
        write(folder.path(), "results.json", "{\"name\": ");
        let error = read_results(&folder.path().join("results.json")).unwrap_err().to_string();
        assert!(error.contains("results.json"), "{error}");
    }
}

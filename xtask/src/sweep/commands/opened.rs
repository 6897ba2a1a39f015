//! A sweep's folder as it is now.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sae_config::{RunConfig, RunResult, SweepResults, read_json};
use sae_report::read_results;

use super::super::results;
use super::super::state::{self, Known};
use crate::exit::{note, usage};
use crate::workspace::Workspace;
pub(super) use names::labels;

/// The folder of a sweep.
pub(crate) struct Sweep {
    pub(crate) out: PathBuf,
    /// Its runs, as far as they are now.
    pub(super) results: SweepResults,
    /// Its runs by `results.json`.
    written: Option<SweepResults>,
    /// What could not be read.
    pub(crate) notes: Vec<String>,
    /// Folders below `runs/` that are no run of the sweep.
    pub(super) others: Vec<String>,
}

impl Sweep {
    /// Opens a folder, or that of a sweep of this workspace by its name.
    pub(crate) fn open(workspace: &Workspace, folder: &Path) -> Result<Self> {
        let named = workspace.root().join("runs").join(folder);
        let out = if folder.exists() || !named.is_dir() { folder.to_owned() } else { named };
        let expected = || {
            usage(format!(
                "{}: expected the folder of a sweep, with results.json or runs/ in it",
                folder.display()
            ))
        };
        let (file, runs) = (out.join("results.json"), out.join("runs"));
        if !file.is_file() && !runs.is_dir() {
            bail!(expected());
        }
        let folders = folders(&runs)?;
        let unread = |e: sae_report::Error| {
            (None, vec![format!("{e}; the sweep started again writes it anew")])
        };
        let (read, mut notes) = match file.is_file().then(|| read_results(&file)) {
            Some(read) => read.map_or_else(unread, |(results, notes)| (Some(results), notes)),
            None => (None, Vec::new()),
        };
        let name = read.as_ref().map(|results| results.name.clone());
        let name =
            name.unwrap_or_else(|| out.file_name().unwrap_or_default().display().to_string());
        // Without the folders of the runs the file is all there is.
        let written = read.clone();
        let results = match read {
            Some(read) if !runs.is_dir() => read,
            Some(read) => {
                let is_name = |run: &&RunResult| is_id(&run.run_id);
                let strange = read.runs.iter().filter(|run| !is_name(run));
                notes.extend(
                    strange
                        .map(|run| format!("results.json: expected an id, got {:?}", run.run_id)),
                );
                let known: Vec<Known> = read.runs.iter().filter(is_name).map(Known::from).collect();
                results::of(&name, &out, &known)
            }
            None => {
                let known: Vec<Known> =
                    folders.iter().filter_map(|id| from_folder(&runs, id, &mut notes)).collect();
                results::of(&name, &out, &known)
            }
        };
        let own: BTreeSet<&str> = results.runs.iter().map(|run| run.run_id.as_str()).collect();
        let others = folders.iter().filter(|id| !own.contains(id.as_str())).cloned().collect();
        Ok(Self { out, results, written, notes, others })
    }

    /// Its runs as far as they are now; of those whose folders are gone, what `results.json` has.
    pub(crate) fn known(&self) -> SweepResults {
        let mut results = self.results.clone();
        let written = self.written.iter().flat_map(|written| &written.runs);
        let written: BTreeMap<&str, &RunResult> =
            written.map(|run| (run.run_id.as_str(), run)).collect();
        for run in &mut results.runs {
            if !folder(self, &run.run_id).exists()
                && let Some(written) = written.get(run.run_id.as_str())
            {
                *run = (*written).clone();
            }
        }
        results
    }

    /// Writes tables and report anew, unless what this version cannot read would be lost.
    pub(super) fn refresh(&self) -> Result<()> {
        if let Some(why) = self.notes.first() {
            note(&format!("results.json stays as it is: {why}"));
            return Ok(());
        }
        let known: Vec<Known> = self.results.runs.iter().map(Known::from).collect();
        results::write(&self.out, &results::of(&self.results.name, &self.out, &known))?;
        sae_report::write_report(&self.out)?;
        Ok(())
    }
}

/// Whether a text can be the name of a run's folder, and of nothing outside it.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// The names of the folders of runs.
fn folders(runs: &Path) -> Result<Vec<String>> {
    if !runs.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(runs).with_context(|| runs.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && is_id(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A run by what its folder says of it.
fn from_folder(runs: &Path, id: &str, notes: &mut Vec<String>) -> Option<Known> {
    let folder = runs.join(id);
    if let Ok(result) = read_json::<RunResult>(&folder.join("result.json")) {
        return Some(Known { id: id.into(), ..Known::from(&result) });
    }
    match RunConfig::read(&folder.join("run.toml")) {
        Ok(config) => Some(Known { id: id.into(), variant: None, config }),
        Err(e) => {
            notes.push(format!("{e}; the run is left out"));
            None
        }
    }
}

/// The folder of a run of a sweep.
pub(super) fn folder(sweep: &Sweep, id: &str) -> PathBuf {
    state::folder(&sweep.out, id)
}

#[cfg(test)]
mod tests {
    use sae_config::{RunStatus, write_json};

    use super::super::super::tests::result;
    use super::*;

    /// A sweep's folder with these runs.
    pub(super) fn sweep(ids: &[&str]) -> (tempfile::TempDir, Workspace) {
        let out = tempfile::tempdir().unwrap();
        for id in ids {
            std::fs::create_dir_all(out.path().join("runs").join(id)).unwrap();
            write_json(&out.path().join("runs").join(id).join("result.json"), &result(id)).unwrap();
        }
        let runs = ids.iter().map(|id| result(id)).collect();
        let results = SweepResults { name: "mine".into(), runs, ..SweepResults::default() };
        write_json(&out.path().join("results.json"), &results).unwrap();
        (out, Workspace::find())
    }

    #[test]
    fn a_folder_without_results_is_told_by_its_runs() {
        let (out, workspace) = sweep(&["aaaa", "bbbb"]);
        std::fs::remove_file(out.path().join("results.json")).unwrap();
        let config = result("x").config;
        std::fs::create_dir(out.path().join("runs/cccc")).unwrap();
        sae_config::write_toml(&out.path().join("runs/cccc/run.toml"), &config).unwrap();
        std::fs::write(out.path().join("runs/cccc/log.txt"), "").unwrap();
        std::fs::create_dir(out.path().join("runs/dddd")).unwrap();
        let opened = Sweep::open(&workspace, out.path()).unwrap();
        let statuses: Vec<_> = opened.results.runs.iter().map(|run| run.status).collect();
        assert_eq!(statuses, [RunStatus::Done, RunStatus::Done, RunStatus::Stopped]);
        assert!(opened.notes[0].contains("dddd") && opened.others == ["dddd"]);

        std::fs::write(out.path().join("results.json"), "{\"name\"").unwrap();
        let broken = Sweep::open(&workspace, out.path()).unwrap();
        assert_eq!(
            broken.results,
            SweepResults { name: opened.results.name.clone(), ..opened.results }
        );
        assert!(broken.notes[0].contains("results.json"), "{:?}", broken.notes);
        broken.refresh().unwrap();
        let text = std::fs::read_to_string(out.path().join("results.json")).unwrap();
        assert_eq!(text, "{\"name\"", "what cannot be read is not overwritten");
    }

    #[test]
    fn what_is_no_sweep_is_refused_and_no_id_leaves_the_folder() {
        let (out, workspace) = sweep(&["aaaa"]);
        let error = Sweep::open(&workspace, &out.path().join("runs/aaaa")).err().unwrap();
        assert!(error.to_string().contains("expected the folder of a sweep"), "{error}");
        let runs = vec![result("../aaaa")];
        let results = SweepResults { name: "mine".into(), runs, ..SweepResults::default() };
        write_json(&out.path().join("results.json"), &results).unwrap();
        let opened = Sweep::open(&workspace, out.path()).unwrap();
        assert!(opened.results.runs.is_empty() && opened.notes[0].contains("../aaaa"));
        assert_eq!(opened.others, ["aaaa"]);
    }

    #[test]
    fn results_that_came_without_their_runs_are_taken_as_they_are() {
        let (out, workspace) = sweep(&["aaaa"]);
        std::fs::remove_dir_all(out.path().join("runs")).unwrap();
        let opened = Sweep::open(&workspace, out.path()).unwrap();
        assert_eq!(opened.results.runs, [result("aaaa")]);
        // Of some runs the folders are there.
        let (out, workspace) = sweep(&["aaaa", "bbbb"]);
        std::fs::remove_dir_all(out.path().join("runs/aaaa")).unwrap();
        std::fs::remove_file(out.path().join("runs/bbbb/result.json")).unwrap();
        let opened = Sweep::open(&workspace, out.path()).unwrap();
        let statuses = |results: &SweepResults| -> Vec<RunStatus> {
            results.runs.iter().map(|run| run.status).collect()
        };
        assert_eq!(statuses(&opened.results), [RunStatus::Pending, RunStatus::Pending]);
        assert_eq!(statuses(&opened.known()), [RunStatus::Done, RunStatus::Pending]);
    }
}

//! A sweep's folder belongs to one sweep.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sae_config::{SweepConfig, SweepResults, read_json, read_toml};

use super::plan::Plan;
use super::slurm;
use crate::exit::usage;

/// The folder of a sweep that is at work in it.
pub(super) struct Claimed {
    out: PathBuf,
    before: Before,
    /// Locked as long as it is open.
    _lock: File,
}

/// What a sweep writes into its folder before any run has begun.
const WRITTEN: [&str; 6] =
    ["sweep.toml", "halving.json", "results.json", "results.csv", "equal-l0.csv", "report.html"];

/// What a folder was before a sweep came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Empty,
    Filled,
}

impl Claimed {
    /// Makes the folder, if it is not there, and keeps other sweeps out of it.
    pub(super) fn claim(out: &Path) -> Result<Self> {
        let before = match std::fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
            Err(_) => Before::Absent,
            Ok(true) => Before::Empty,
            Ok(false) => Before::Filled,
        };
        std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
        let out = out.canonicalize()?;
        let lock = File::open(&out)?;
        if lock.try_lock().is_err() {
            bail!("{}: another sweep is at work in this folder", out.display());
        }
        Ok(Self { out, before, _lock: lock })
    }

    pub(super) fn out(&self) -> &Path {
        &self.out
    }

    /// Leaves a folder that a refused sweep has found absent or empty as it was.
    pub(super) fn leave(&self) -> Result<()> {
        let has_begun = ["runs", "slurm"].iter().any(|name| self.out.join(name).exists());
        if self.before == Before::Filled || has_begun {
            return Ok(());
        }
        for name in WRITTEN {
            let file = self.out.join(name);
            match std::fs::remove_file(&file) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| file.display().to_string());
                }
                _ => {}
            }
        }
        if self.before == Before::Absent {
            // It stays where somebody has put something into it.
            let _ = std::fs::remove_dir(&self.out);
        }
        Ok(())
    }
}

/// Files that tell a host, a store or a checkpoint.
const OF_INPUTS: [&str; 3] = ["config.json", "manifest.json", "sae.json"];

/// Refuses a folder that is an input, or that holds the runs of another sweep: its table would be
/// replaced by that of this one. A sweep file to which runs were added, or that has lost some, is the
/// same sweep.
pub(super) fn check(plan: &Plan, out: &Path) -> Result<()> {
    if let Some(file) = OF_INPUTS.iter().map(|name| out.join(name)).find(|file| file.exists()) {
        let expected = "a folder of its own, no host, store or checkpoint";
        bail!(usage(format!("--out: expected {expected}, got one with {}", file.display())));
    }
    let remedy = format!(
        "give another folder (--out), or delete {} if its runs are not wanted any more",
        out.display()
    );
    let results: Option<SweepResults> = read_json(&out.join("results.json")).ok();
    if let Some(results) = results.filter(|results| results.name != plan.name) {
        let (other, name) = (results.name, &plan.name);
        bail!(usage(format!("{}: holds sweep `{other}`, not `{name}`; {remedy}", out.display())));
    }
    let before: Option<SweepConfig> = read_toml(&out.join("sweep.toml")).ok();
    let is_same_file = before.is_some_and(|before| before == plan.config);
    let ids = present(out)?;
    if is_same_file || ids.is_empty() || plan.runs.iter().any(|run| ids.contains(&run.id)) {
        return Ok(());
    }
    let n = ids.len();
    bail!(usage(format!(
        "{}: holds {n} runs of another sweep, or of this one before a change that made all its \
         runs others; {remedy}",
        out.display()
    )))
}

/// Runs that are there, or that a cluster works at.
fn present(out: &Path) -> Result<Vec<String>> {
    let mut ids = slurm::submitted(out)?;
    for entry in std::fs::read_dir(out.join("runs")).into_iter().flatten() {
        let folder = entry?.path();
        // A folder with a log alone holds nothing that would be missed.
        let has_work = ["result.json", "checkpoint", "training"];
        if has_work.iter().any(|name| folder.join(name).exists()) {
            ids.extend(folder.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(ids)
}

/// Removes a folder that may be there.
pub(super) fn discard(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| folder.display().to_string())
        }
        _ => Ok(()),
    }
}

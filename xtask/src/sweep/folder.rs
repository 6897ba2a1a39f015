//! A sweep's folder belongs to one sweep.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sae_config::{SweepConfig, SweepResults, read_json, read_toml};

use super::plan::Plan;
use super::slurm;
use crate::exit::usage;

/// Refuses a folder that holds the runs of another sweep: its table would be replaced by that of
/// this one. A sweep file to which runs were added, or that has lost some, is the same sweep.
pub(super) fn check(plan: &Plan, out: &Path) -> Result<()> {
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
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| folder.display().to_string())
        }
        _ => Ok(()),
    }
}

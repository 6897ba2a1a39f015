//! How far the seeds of a setting find the same features: all pairs of runs that differ in nothing
//! else.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sae_config::{Comparison, RunResult, RunStatus, Suite, read_json};
use sae_report::Groups;

use super::child::{self, Log};
use super::job::Job;
use super::progress::Spinner;
use super::table::{Setting, settings};
use crate::exit::{Interrupted, message, note};

/// Two runs of a setting, and where their comparison is.
struct Pair<'a> {
    setting: String,
    sparsity: String,
    runs: [&'a RunResult; 2],
}

impl Pair<'_> {
    /// The file of the comparison, in the folder of the first.
    fn file(&self, job: &Job) -> PathBuf {
        let [first, second] = self.runs.map(|run| &run.run_id);
        job.folder(first).join(format!("compare-{second}.json"))
    }
}

/// Compares all pairs of seeds that are not compared yet, and writes `stability.csv` where there are
/// any; one that cannot be compared is said, and costs the others nothing. Returns how many these are.
pub(super) fn compare(job: &Job, results: &[RunResult]) -> Result<usize> {
    if !job.suites.wanted.contains(&Suite::Stability) {
        return Ok(0);
    }
    let pairs = pairs(results);
    if pairs.is_empty() {
        return Ok(0);
    }
    note(&format!("suite stability: {} pairs of seeds", pairs.len()));
    let mut lines = Vec::new();
    for pair in &pairs {
        let file = pair.file(job);
        if !file.exists()
            && let Err(error) = compare_one(job, pair, &file)
        {
            if error.is::<Interrupted>() {
                return Err(error);
            }
            let [first, second] = pair.runs.map(|run| &run.run_id);
            note(&format!("{first} and {second} could not be compared: {}", message(&error)));
            continue;
        }
        lines.push((pair, read_json::<Comparison>(&file)?));
    }
    sae_config::write_text(&job.out.join("stability.csv"), &csv(&lines)?)?;
    Ok(pairs.len() - lines.len())
}

/// The pairs of finished runs of each setting.
fn pairs(results: &[RunResult]) -> Vec<Pair<'_>> {
    let groups = Groups::of(results);
    let mut pairs = Vec::new();
    for Setting { name, sparsity, runs } in settings(results, &groups) {
        let done: Vec<&RunResult> =
            runs.into_iter().filter(|run| run.status == RunStatus::Done).collect();
        for (i, first) in done.iter().enumerate() {
            for second in &done[i + 1..] {
                let (setting, sparsity) = (name.clone(), sparsity.clone());
                pairs.push(Pair { setting, sparsity, runs: [first, second] });
            }
        }
    }
    pairs
}

fn compare_one(job: &Job, pair: &Pair<'_>, file: &Path) -> Result<()> {
    let [first, second] = pair.runs.map(|run| job.folder(&run.run_id));
    let mut spinner = Spinner::new(format!("seeds of {} {}", pair.setting, pair.sparsity));
    let path = first.join("log.txt");
    let log = Log::open(&path, || ())?;
    let mut command = job.program();
    command.arg("compare").arg(first.join("checkpoint")).arg(second.join("checkpoint"));
    let stores = job.activations.of(&pair.runs[0].config)?;
    command.arg("--data").arg(&stores.held_out).arg("--out").arg(file);
    let status = log.run(&mut command, || spinner.tick(&child::tail(&path, 1)))?;
    spinner.done();
    match status.success() {
        true => Ok(()),
        false => bail!("{status}; the end of {}:\n{}", path.display(), child::tail(&path, 5)),
    }
}

fn csv(lines: &[(&Pair<'_>, Comparison)]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "setting",
        "k",
        "run_a",
        "run_b",
        "seed_a",
        "seed_b",
        "features_a",
        "features_b",
        "pw_mcc",
        "shared",
        "pw_mcc_random",
        "shared_random",
        "kept",
        "split",
        "changed",
        "lost",
    ])?;
    for (pair, of) in lines {
        let [first, second] = pair.runs;
        let numbers = [of.scores.pw_mcc, of.scores.shared, of.floor.pw_mcc, of.floor.shared];
        let fates = [of.fates.kept, of.fates.split, of.fates.changed, of.fates.lost];
        let seed = |run: &RunResult| run.config.training.seed.to_string();
        let mut line = vec![pair.setting.clone(), pair.sparsity.clone()];
        line.extend([first.run_id.clone(), second.run_id.clone(), seed(first), seed(second)]);
        line.extend(of.n_features.map(|n| n.to_string()));
        line.extend(numbers.map(|number| number.to_string()));
        line.extend(fates.map(|n| n.to_string()));
        writer.write_record(line)?;
    }
    String::from_utf8(writer.into_inner()?).context("stability.csv")
}

#[cfg(test)]
mod tests {
    use super::super::tests::measured;
    use super::*;

    #[test]
    fn seeds_of_a_setting_are_paired_and_no_others() {
        let mut failed = measured(4, 9, 0.1);
        failed.status = RunStatus::Failed;
        let results = [
            measured(4, 0, 0.5),
            measured(4, 1, 0.5),
            measured(8, 0, 0.5),
            measured(4, 2, 0.5),
            failed,
        ];
        let of = pairs(&results);
        let ids: Vec<_> = of.iter().map(|pair| pair.runs.map(|run| run.run_id.as_str())).collect();
        assert_eq!(ids, [["4-0", "4-1"], ["4-0", "4-2"], ["4-1", "4-2"]]);
        assert!(of.iter().all(|pair| pair.sparsity == "4"));
    }
}

//! Submissions, kept in the sweep's folder: a folder each, with what its tasks read and write.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use sae_config::{SlurmConfig, read_json, write_json};
use serde::{Deserialize, Serialize};

use super::super::job::{Job, Place};
use super::super::plan::PlannedRun;
use super::super::task::Task;
use super::queue::TaskId;
use super::sbatch::{self, Answer};

/// Folder of the submissions in a sweep's folder.
pub(super) const FOLDER: &str = "slurm";
const RECORD: &str = "submission.json";

/// A run that is submitted, up to so many steps: runs that are halved are submitted for each rung.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Submitted {
    pub(super) id: String,
    pub(super) steps: u64,
}

impl From<&PlannedRun> for Submitted {
    fn from(run: &PlannedRun) -> Self {
        Self { id: run.id.clone(), steps: run.point.config.training.steps }
    }
}

/// An array job that was submitted, or is about to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Submission {
    #[serde(skip)]
    pub(super) folder: PathBuf,
    /// Name of the job, no other's: it is found by that where its id could not be written down.
    pub(super) name: String,
    /// Id of the array job; none before `sbatch` has told it.
    pub(super) array: Option<String>,
    /// Whether it was cancelled by the sweep.
    pub(super) cancelled: bool,
    /// The runs, by index of their task.
    pub(super) runs: Vec<Submitted>,
    /// The programs that they use.
    pub(super) programs: Vec<PathBuf>,
}

/// What a submission needs to know of the cluster.
pub(super) struct Cluster {
    pub(super) table: SlurmConfig,
    /// The sweep's copy of this program.
    pub(super) xtask: PathBuf,
    pub(super) device: String,
    /// Tasks at once; all if absent.
    pub(super) jobs: Option<u16>,
}

impl Submission {
    /// All that are kept in a sweep's folder, the oldest first.
    pub(super) fn all(out: &Path) -> Result<Vec<Self>> {
        let root = out.join(FOLDER);
        let entries = match fs::read_dir(&root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| root.display().to_string())?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let folder = entry?.path();
            // Without a record it was not submitted, or is over.
            if folder.join(RECORD).exists() {
                let submission: Self = read_json(&folder.join(RECORD))?;
                all.push(Self { folder, ..submission });
            } else if folder.is_dir() {
                remove(&folder)?;
            }
        }
        all.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(all)
    }

    /// Writes what the tasks of some runs need, and that they are about to be submitted.
    pub(super) fn prepare(job: &Job, runs: &[&PlannedRun], cluster: &Cluster) -> Result<Self> {
        let name = unique_name();
        let root = job.out.join(FOLDER);
        let folder = root.join(&name);
        fs::create_dir_all(folder.join("tasks")).with_context(|| folder.display().to_string())?;
        for (index, run) in runs.iter().enumerate() {
            let task = Task {
                job: job.clone(),
                id: run.id.clone(),
                config: run.point.config.clone(),
                place: Place { device: cluster.device.clone(), threads: None },
            };
            write_json(&folder.join(format!("tasks/{index}.json")), &task)?;
            // A result of an earlier attempt must not pass for this one's.
            job.forget_failure(run)?;
        }
        let runs = runs.iter().map(|run| Submitted::from(*run)).collect();
        let programs = vec![job.program.clone(), cluster.xtask.clone()];
        let submission = Self { folder, name, array: None, cancelled: false, runs, programs };
        submission.write()?;
        File::open(&root)?.sync_all()?;
        Ok(submission)
    }

    /// Writes the record.
    pub(super) fn write(&self) -> Result<()> {
        Ok(write_json(&self.folder.join(RECORD), self)?)
    }

    /// The task of a run of this submission that is known to SLURM.
    pub(super) fn task(&self, index: usize) -> Option<TaskId> {
        Some((self.array.clone()?, index))
    }

    /// What the scheduler itself wrote of a task.
    pub(super) fn log(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{index}.log"))
    }

    /// Submits it and writes the id down.
    pub(super) fn submit(&mut self, cluster: &Cluster, after: Option<&str>) -> Result<Answer> {
        let script = self.folder.join("task.sh");
        fs::write(&script, sbatch::script(&cluster.table, &cluster.xtask, &self.folder))?;
        let mut command =
            sbatch::command(&self.name, self.runs.len(), &self.folder, cluster.jobs, after);
        let output = command.arg(&script).output().context("cannot start `sbatch`")?;
        let answer = sbatch::understood(
            output.status.success(),
            &String::from_utf8_lossy(&output.stdout),
            &String::from_utf8_lossy(&output.stderr),
        )?;
        if let Answer::Queued(id) = &answer {
            self.array = Some(id.clone());
            self.write()?;
        }
        Ok(answer)
    }

    /// Keeps no more than its logs, and those until submissions are read again.
    pub(super) fn close(&self) -> Result<()> {
        let record = self.folder.join(RECORD);
        fs::remove_file(&record).with_context(|| record.display().to_string())
    }

    /// Whether all its runs are trained as far as it was to train them.
    pub(super) fn has_finished(&self, job: &Job) -> bool {
        self.runs.iter().all(|run| job.has_finished(&run.id, run.steps))
    }

    /// Removes its folder.
    pub(super) fn discard(&self) -> Result<()> {
        remove(&self.folder)
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| folder.display().to_string())
        }
        _ => Ok(()),
    }
}

/// A name for a job that sorts by time and that no other job has.
fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("softsae-{:015x}-{:x}", now.as_micros(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time() {
        let names: Vec<_> = (0..100)
            .map(|_| {
                std::thread::sleep(std::time::Duration::from_micros(2));
                unique_name()
            })
            .collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    }
}

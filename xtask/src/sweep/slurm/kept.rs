//! Submissions, kept in the sweep's folder: a folder each, with what its tasks read and write.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use sae_config::{SlurmConfig, read_json, write_json};
use serde::{Deserialize, Serialize};

use super::super::child::line;
use super::super::job::{Job, Place};
use super::super::plan::PlannedRun;
use super::super::task::Task;
use super::queue::TaskId;

/// Folder of the submissions in a sweep's folder.
const FOLDER: &str = "slurm";
const RECORD: &str = "submission.json";

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
    pub(super) runs: Vec<String>,
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

/// What `sbatch` made of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is queued, under this id.
    Queued(String),
    /// More jobs are not taken now.
    Full(String),
    /// It is not known whether the job has arrived.
    Unclear(String),
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
        let runs = runs.iter().map(|run| run.id.clone()).collect();
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
        fs::write(&script, script_text(&cluster.table, &cluster.xtask, &self.folder))?;
        let mut command = sbatch(&self.name, self.runs.len(), &self.folder, cluster.jobs, after);
        let output = command.arg(&script).output().context("cannot start `sbatch`")?;
        let answer = understood(
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

/// The command that submits a job, but for the script. What is on it wins over `SBATCH_…`
/// variables, and these over the script.
fn sbatch(
    name: &str,
    n_tasks: usize,
    folder: &Path,
    jobs: Option<u16>,
    after: Option<&str>,
) -> Command {
    let limit = jobs.map_or_else(String::new, |jobs| format!("%{jobs}"));
    let mut command = Command::new("sbatch");
    command.args(["--parsable", "--requeue", "--open-mode=append"]);
    command.arg(format!("--job-name={name}"));
    command.arg(format!("--array=0-{}{limit}", n_tasks - 1));
    if let Some(other) = after {
        command.arg(format!("--dependency=afterany:{other}"));
    }
    let mut output = std::ffi::OsString::from("--output=");
    // `sbatch` replaces what follows a percent sign.
    output.push(folder.to_string_lossy().replace('%', "%%"));
    output.push("/%a.log");
    command.arg(output);
    command
}

/// What a task does: the index is the scheduler's.
fn script_text(table: &SlurmConfig, xtask: &Path, folder: &Path) -> String {
    let options: String =
        table.options().iter().map(|option| format!("#SBATCH {option}\n")).collect();
    let mut task = Command::new(xtask);
    task.arg("sweep-run").arg(folder.join("tasks"));
    format!("#!/bin/sh\n{options}exec {}/$SLURM_ARRAY_TASK_ID.json\n", line(&task))
}

/// The command and the script that would submit so many runs.
pub(super) fn preview(out: &Path, n_runs: usize, table: &SlurmConfig, jobs: Option<u16>) -> String {
    let folder = out.join(FOLDER).join("NAME");
    let mut command = sbatch("NAME", n_runs, &folder, jobs, None);
    let command = line(command.arg(folder.join("task.sh")));
    let script = script_text(table, &out.join("programs/HASH/xtask"), &folder);
    format!("{command}\n\ntask.sh:\n{script}")
}

/// What `sbatch` has said.
fn understood(succeeded: bool, stdout: &str, stderr: &str) -> Result<Answer> {
    const FULL: [&str; 4] =
        ["job submit limit", "SubmitJob", "MaxJobCount", "temporarily unable to accept"];
    const UNCLEAR: [&str; 5] = [
        "Unable to contact",
        "Socket timed out",
        "Connection refused",
        "timed out",
        "Unexpected message",
    ];
    let said = stderr.trim();
    if succeeded {
        // With several clusters it is `id;cluster`.
        let id = stdout.trim().split(';').next().unwrap_or_default();
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_digit()) {
            bail!("sbatch: expected the id of a job, got `{}`", stdout.trim());
        }
        return Ok(Answer::Queued(id.into()));
    }
    match said {
        _ if FULL.iter().any(|words| said.contains(words)) => Ok(Answer::Full(said.into())),
        _ if UNCLEAR.iter().any(|words| said.contains(words)) => Ok(Answer::Unclear(said.into())),
        _ => bail!("sbatch: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_sbatch_are_told_apart() {
        let failed = |stderr: &str| understood(false, "", stderr);
        assert_eq!(understood(true, "17\n", "").unwrap(), Answer::Queued("17".into()));
        assert_eq!(understood(true, "17;west\n", "").unwrap(), Answer::Queued("17".into()));
        assert!(understood(true, "Submitted", "").is_err());
        for full in [
            "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: \
             Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "sbatch: error: QOSMaxSubmitJobPerUserLimit",
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        ] {
            assert_eq!(failed(full).unwrap(), Answer::Full(full.into()));
        }
        for unclear in [
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller \
             (connect failure)",
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        ] {
            assert_eq!(failed(unclear).unwrap(), Answer::Unclear(unclear.into()));
        }
        let error = failed("sbatch: error: invalid partition specified: gpus").unwrap_err();
        assert_eq!(error.to_string(), "sbatch: sbatch: error: invalid partition specified: gpus");
    }

    #[test]
    fn the_script_has_the_options_and_the_command_the_rest() {
        let table = SlurmConfig { mem: Some("2G".into()), cpus: Some(2), ..Default::default() };
        let text = preview(Path::new("/runs/it's 5 %"), 7, &table, Some(3));
        assert!(text.starts_with("sbatch --parsable --requeue --open-mode=append"), "{text}");
        for part in [
            "--array=0-6%3",
            "--output=/runs/it'\\''s 5 %%/slurm/NAME/%a.log",
            "#SBATCH --mem=2G\n#SBATCH --cpus-per-task=2\nexec '/runs/it'\\''s 5 %/programs/",
            "/tasks'/$SLURM_ARRAY_TASK_ID.json\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

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

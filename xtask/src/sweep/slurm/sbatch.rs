//! `sbatch`: the command and the script that submit runs, and what it answers.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use sae_config::SlurmConfig;

use super::super::child::line;
use super::kept::FOLDER;

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

/// The command that submits a job, but for the script. What is on it wins over `SBATCH_…`
/// variables, and these over the script.
pub(super) fn command(
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
pub(super) fn script(table: &SlurmConfig, xtask: &Path, folder: &Path) -> String {
    let options: String =
        table.options().iter().map(|option| format!("#SBATCH {option}\n")).collect();
    let mut task = Command::new(xtask);
    task.arg("sweep-run").arg(folder.join("tasks"));
    format!("#!/bin/sh\n{options}exec {}/$SLURM_ARRAY_TASK_ID.json\n", line(&task))
}

/// The command and the script that would submit so many runs.
pub(super) fn preview(out: &Path, n_runs: usize, table: &SlurmConfig, jobs: Option<u16>) -> String {
    let folder = out.join(FOLDER).join("NAME");
    let mut command = command("NAME", n_runs, &folder, jobs, None);
    let command = line(command.arg(folder.join("task.sh")));
    let script = script(table, &out.join("programs/HASH/xtask"), &folder);
    format!("{command}\n\ntask.sh:\n{script}")
}

/// What `sbatch` has said.
pub(super) fn understood(succeeded: bool, stdout: &str, stderr: &str) -> Result<Answer> {
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
}

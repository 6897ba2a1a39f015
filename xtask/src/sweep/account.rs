//! A run's account: how it ended, how long it took, what made it, where and when.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use sae_config::{Provenance, Timing, read_json, write_json};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::child::{Ending, Limits};
use super::memory;
use crate::setup;
use crate::workspace::Workspace;

/// What all runs of a sweep are made by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Maker {
    version: String,
    revision: Option<String>,
    libtorch: Option<String>,
}

impl Maker {
    /// Asks git and libtorch.
    pub(super) fn find(workspace: &Workspace) -> Self {
        let revision = if workspace.is_bundle() { None } else { revision(workspace.root()) };
        let libtorch = setup::version(workspace);
        Self { version: env!("CARGO_PKG_VERSION").into(), revision, libtorch }
    }
}

/// The revision of a checkout, with `+` where tracked files differ from it.
fn revision(root: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| said.trim().to_owned())
    };
    // A checkout of something else may lie around the sources.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let revision = git(&["rev-parse", "HEAD"])?;
    Some(if changed.is_empty() { revision } else { revision + "+" })
}

/// Start of the first attempt of a run (`started.json`).
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    started: String,
}

/// Notes the start of a run's first attempt, and gives it.
pub(super) fn start(folder: &Path) -> Result<String> {
    let file = folder.join("started.json");
    if let Ok(Started { started }) = read_json(&file) {
        return Ok(started);
    }
    let started = now()?;
    write_json(&file, &Started { started: started.clone() })?;
    Ok(started)
}

/// What made a run that ends now.
pub(super) fn provenance(maker: &Maker, device: &str, started: String) -> Result<Provenance> {
    let Maker { version, revision, libtorch } = maker.clone();
    let device = model(device).unwrap_or_else(|| device.into());
    Ok(Provenance { version, revision, libtorch, device, host: host(), started, ended: now()? })
}

/// The seconds of a training, as it counts them; none before it has ended.
pub(super) fn train_seconds(folder: &Path) -> Option<f64> {
    let timing: Timing = read_json(&folder.join("timing.json")).ok()?;
    Some(timing.train_seconds)
}

/// Now in UTC, to the second.
fn now() -> Result<String> {
    let now = OffsetDateTime::now_utc();
    let whole = now.replace_nanosecond(0).unwrap_or(now);
    whole.format(&Rfc3339).context("the clock")
}

/// Model of the CPU or GPU.
fn model(device: &str) -> Option<String> {
    if device != "cpu" {
        return memory::nvidia_smi(device, "name");
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Name of this machine.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What a process failed by; none of one that did not.
pub(super) fn failure(stage: &str, ending: Ending, limits: &Limits) -> Option<String> {
    let mega = |bytes: u64| bytes / 1_000_000;
    let text = match ending {
        Ending::Exited(status) if status.success() => return None,
        Ending::Exited(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(9)) => "killed by signal 9 (out of memory?)".into(),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => status.to_string(),
        },
        Ending::OutOfTime => {
            let seconds = limits.time.unwrap_or_default().as_secs_f64();
            format!("stopped at the time limit of {seconds} s; another start goes on from there")
        }
        Ending::OverMemory(bytes) => {
            let limit = mega(limits.memory.unwrap_or_default());
            format!("killed at {} MB, over the memory limit of {limit} MB", mega(bytes))
        }
    };
    Some(format!("{stage}: {text}"))
}

/// Whether a signal that is not ours ended a process: another attempt may do better.
pub(super) fn was_killed(ending: Ending) -> bool {
    matches!(ending, Ending::Exited(status) if status.signal().is_some())
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::*;

    #[test]
    fn failures_name_the_process_and_how_it_ended() {
        let limits = Limits { time: Some(Duration::from_millis(1500)), memory: Some(5_000_000) };
        let exited = |raw| Ending::Exited(ExitStatus::from_raw(raw));
        for (ending, killed, expected) in [
            (exited(0), false, None),
            (exited(1 << 8), false, Some("training: exit code 1")),
            (exited(9), true, Some("training: killed by signal 9 (out of memory?)")),
            (exited(11), true, Some("training: killed by signal 11")),
            (
                Ending::OutOfTime,
                false,
                Some(
                    "training: stopped at the time limit of 1.5 s; another start goes on from there",
                ),
            ),
            (
                Ending::OverMemory(7_000_000),
                false,
                Some("training: killed at 7 MB, over the memory limit of 5 MB"),
            ),
        ] {
            assert_eq!(failure("training", ending, &limits).as_deref(), expected);
            assert_eq!(was_killed(ending), killed, "{ending:?}");
        }
    }

    #[test]
    fn the_first_start_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("started.json"), "{\"started\": \"before\"}").unwrap();
        assert_eq!(start(folder.path()).unwrap(), "before");
        let other = tempfile::tempdir().unwrap();
        let started = start(other.path()).unwrap();
        assert_eq!(start(other.path()).unwrap(), started);
        let form = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(form(&started), "0000-00-00T00:00:00Z");
        assert!(model("cpu").is_some() && !host().is_empty());
    }

    #[test]
    fn a_revision_tells_of_changes() {
        let folder = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(folder.path()).args(["-c", "user.name=a", "-c", "user.email=b"]);
            assert!(command.args(args).output().unwrap().status.success(), "{args:?}");
        };
        assert_eq!(revision(folder.path()), None);
        std::fs::write(folder.path().join("file"), "one").unwrap();
        git(&["init", "--quiet"]);
        git(&["add", "file"]);
        git(&["commit", "--quiet", "--message", "first"]);
        let clean = revision(folder.path()).unwrap();
        assert!(clean.len() >= 40 && !clean.ends_with('+'), "{clean}");
        std::fs::write(folder.path().join("file"), "two").unwrap();
        assert_eq!(revision(folder.path()), Some(clean + "+"));
        std::fs::create_dir(folder.path().join("below")).unwrap();
        assert_eq!(revision(&folder.path().join("below")), None);
    }
}

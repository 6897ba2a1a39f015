//! How far each run of a sweep is, by what its folder holds.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use sae_config::{RunConfig, RunResult, RunStatus, read_json};

use super::metrics::Metrics;

/// A run that a sweep has.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) variant: Option<String>,
    pub(super) config: RunConfig,
}

impl From<&RunResult> for Known {
    fn from(run: &RunResult) -> Self {
        let (id, variant, config) = (run.run_id.clone(), run.variant.clone(), run.config.clone());
        Self { id, variant, config }
    }
}

/// The folder of a run.
pub(super) fn folder(out: &Path, id: &str) -> PathBuf {
    out.join("runs").join(id)
}

/// Whether a process is at work on the run in a folder: it holds the run's log.
pub(super) fn is_held(folder: &Path) -> bool {
    // Where there is no log, nothing has begun.
    let Ok(log) = File::open(folder.join("log.txt")) else { return false };
    matches!(log.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Steps that a run has done, by its metrics.
pub(super) fn steps_done(folder: &Path) -> Option<u64> {
    Metrics::last(&folder.join("metrics.jsonl")).map(|metrics| metrics.n_done())
}

/// The result of a run; of one that has not ended, its status and nothing measured.
pub(super) fn of(out: &Path, known: &Known) -> RunResult {
    let folder = folder(out, &known.id);
    let without = |status: RunStatus, failure: Option<String>| RunResult {
        run_id: known.id.clone(),
        variant: known.variant.clone(),
        status,
        config: known.config.clone(),
        train_seconds: 0.0,
        evaluation: None,
        failure,
        provenance: None,
    };
    let path = folder.join("result.json");
    // A place that cannot be looked at is not one that is empty.
    match path.try_exists().and_then(|is_there| Ok(is_there || folder.try_exists()?)) {
        Ok(true) => {}
        Ok(false) => return without(RunStatus::Pending, None),
        Err(e) => return without(RunStatus::Stale, Some(format!("{}: {e}", path.display()))),
    }
    let result = path.exists().then(|| read_json::<RunResult>(&path));
    match result {
        // The variant is the sweep's word for the run: its result may come from another sweep.
        Some(Ok(result)) if result.run_id == known.id && result.status == RunStatus::Done => {
            RunResult { variant: known.variant.clone(), ..result }
        }
        _ if is_held(&folder) => without(RunStatus::Running, None),
        Some(Ok(result)) if result.run_id == known.id => {
            RunResult { variant: known.variant.clone(), ..result }
        }
        Some(other) => {
            let wrong = match other {
                Ok(result) => format!("{} is of run {}", path.display(), result.run_id),
                Err(e) => e.to_string(),
            };
            let remedy =
                format!("the next start does the run again; or delete {}", folder.display());
            without(RunStatus::Stale, Some(format!("{wrong}; {remedy}")))
        }
        None if has_begun(&folder) => without(RunStatus::Stopped, None),
        None => without(RunStatus::Pending, None),
    }
}

fn has_begun(folder: &Path) -> bool {
    ["log.txt", "training", "checkpoint"].iter().any(|name| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{known, result};
    use super::*;

    #[test]
    fn a_folder_tells_how_far_its_run_is() {
        let out = tempfile::tempdir().unwrap();
        let folder = folder(out.path(), "abc");
        let status = || {
            let run = of(out.path(), &known("abc"));
            (run.status, run.failure.unwrap_or_default())
        };
        assert_eq!(status().0, RunStatus::Pending);
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(status().0, RunStatus::Pending);
        let log = File::create(folder.join("log.txt")).unwrap();
        assert_eq!(status().0, RunStatus::Stopped);
        log.lock().unwrap();
        assert_eq!(status().0, RunStatus::Running);

        let file = folder.join("result.json");
        let write = |run: &RunResult| sae_config::write_json(&file, run).unwrap();
        write(&RunResult {
            status: RunStatus::Failed,
            failure: Some("why".into()),
            ..result("abc")
        });
        assert_eq!(status().0, RunStatus::Running, "a failed run that is tried again");
        drop(log);
        assert_eq!(status(), (RunStatus::Failed, "why".into()));
        write(&result("abc"));
        assert_eq!(status().0, RunStatus::Done);

        write(&result("other"));
        let (foreign, message) = status();
        assert_eq!(foreign, RunStatus::Stale);
        assert!(message.contains("is of run other; the next start does"), "{message}");
        for text in ["", "{\"run_id\": \"abc\"}", "\0\0"] {
            std::fs::write(&file, text).unwrap();
            let (stale, message) = status();
            assert_eq!(stale, RunStatus::Stale);
            assert!(message.contains("result.json") && message.ends_with("runs/abc"), "{message}");
        }
    }

    #[test]
    fn looking_at_a_run_takes_nobody_its_log() {
        let out = tempfile::tempdir().unwrap();
        let log = File::create(out.path().join("log.txt")).unwrap();
        assert!(!is_held(out.path()));
        log.try_lock().unwrap();
        assert!(is_held(out.path()) && is_held(out.path()));
    }
}

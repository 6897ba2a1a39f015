//! The runs of a sweep with what they came to, as written to `result.json` and `results.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Evaluation, RunConfig};

/// How far a run is; a run's own `result.json` knows the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Trained and evaluated.
    Done,
    /// Trained to a part of its steps and evaluated: others were better there, so that it does not
    /// go on.
    Dropped,
    /// A process of it failed; its log says why.
    Failed,
    /// A process is at work on it.
    Running,
    /// Begun, and no process is at work on it: the next start of the sweep goes on with it.
    Stopped,
    /// Not begun.
    Pending,
    /// Its folder holds a result that is not its own, or that this version cannot read.
    Stale,
}

impl RunStatus {
    /// All of them, in the order of a summary.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::Dropped,
        Self::Failed,
        Self::Stale,
        Self::Running,
        Self::Stopped,
        Self::Pending,
    ];

    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Pending => "pending",
            Self::Stale => "stale",
        }
    }
}

/// One run of a sweep (`result.json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The id of the run.
    pub run_id: String,
    /// The variant of the sweep that it is a run of, where the sweep has variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How it ended.
    pub status: RunStatus,
    /// The run with its defaults filled in.
    pub config: RunConfig,
    /// Wall-clock seconds of the training process.
    pub train_seconds: f64,
    /// What was measured, if it was.
    pub evaluation: Option<Evaluation>,
    /// Of a failed run: which of its processes ended how, such as `training: killed by signal 9`.
    /// Of a stale one: what is wrong with its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What made the result, where and when; absent in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// What made a result, where and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of softsae.
    pub version: String,
    /// Git revision of its sources, with `+` where files differed from it; absent outside a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Version of libtorch, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
    /// Model of the CPU or GPU that trained.
    pub device: String,
    /// Name of the machine.
    pub host: String,
    /// Start of the first attempt, as RFC 3339 in UTC.
    pub started: String,
    /// End of the last attempt, as RFC 3339 in UTC.
    pub ended: String,
}

/// The results of a sweep (`results.json`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepResults {
    /// The sweep's name.
    pub name: String,
    /// Its runs, ended or not, in the order of the sweep.
    pub runs: Vec<RunResult>,
    /// Steps that runs have done which have not ended, by run id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps_done: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::RunStatus;

    #[test]
    fn statuses_are_written_by_their_names() {
        for status in RunStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
    }
}

//! The metrics log: one line of JSON for each logged step.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, StepReport};

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// The step.
    #[serde(flatten)]
    pub report: StepReport,
    /// Rows trained on a second since the line before.
    pub rows_per_second: f64,
}

/// Reads a metrics log; a last line that was cut off is left out.
///
/// # Errors
/// A file that cannot be read, or a line that is not a metrics line.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsLine>> {
    let file = File::open(path).map_err(|e| io(path, e))?;
    let mut lines = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        lines.push(line.map_err(|e| io(path, e))?);
    }
    let last = lines.len().saturating_sub(1);
    let parse = |(i, line): (usize, &Vec<u8>)| match serde_json::from_slice(line) {
        Ok(line) => Some(Ok(line)),
        Err(_) if i == last => None,
        Err(e) => Some(Err(io(path, e.into()))),
    };
    lines.iter().enumerate().filter_map(parse).collect()
}

/// The log of a run; every line is flushed as it is written.
pub(crate) struct MetricsLog {
    file: File,
    path: PathBuf,
}

impl MetricsLog {
    /// Goes on after the lines of the steps before `step`; later ones, of a training that was
    /// killed, are dropped.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self> {
        let kept = if path.exists() { read_metrics(path)? } else { vec![] };
        let mut log =
            Self { file: File::create(path).map_err(|e| io(path, e))?, path: path.into() };
        kept.iter().filter(|line| line.report.step < step).try_for_each(|line| log.write(line))?;
        Ok(log)
    }

    pub(crate) fn write(&mut self, line: &MetricsLine) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|e| io(&self.path, e.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(|e| io(&self.path, e))
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.into(), source }
}

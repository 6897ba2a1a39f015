//! The metrics log: one line of JSON, and one TensorBoard event, for each logged step.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::events::EventLog;
use crate::{Error, Result, StepReport};

/// File of the TensorBoard events in a run's folder, beside the metrics log.
pub const EVENTS_FILE: &str = "events.out.tfevents.softsae";

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// The step.
    #[serde(flatten)]
    pub report: StepReport,
    /// How often the data came to their end before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Damaged files and documents left out since, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
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
    events: EventLog,
}

impl MetricsLog {
    /// Goes on after the lines of the steps before `step`; later ones, of a training that was
    /// killed, are cut off, as is a last line that is not whole. The events follow the lines.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self> {
        let options = OpenOptions::new().create(true).append(true).open(path);
        let file = options.map_err(|e| io(path, e))?;
        let (mut kept, mut lines) = (0, Vec::new());
        for line in std::fs::read(path).map_err(|e| io(path, e))?.split_inclusive(|b| *b == b'\n') {
            if !line.ends_with(b"\n") {
                break;
            }
            let parsed: MetricsLine =
                serde_json::from_slice(line).map_err(|e| io(path, e.into()))?;
            if parsed.report.step >= step {
                break;
            }
            kept += line.len() as u64;
            lines.push(parsed);
        }
        file.set_len(kept).map_err(|e| io(path, e))?;
        let events = EventLog::open(&path.with_file_name(EVENTS_FILE), &lines)?;
        Ok(Self { file, path: path.into(), events })
    }

    pub(crate) fn write(&mut self, line: &MetricsLine) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|e| io(&self.path, e.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(|e| io(&self.path, e))?;
        self.events.write(line)
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::{MetricsLog, read_metrics};

    #[test]
    fn the_log_goes_on_before_what_a_killed_training_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let line = |step: u64| {
            format!(
                "{{\"step\":{step},\"loss\":1.5,\"parts\":{{}},\"l0\":2.0,\"lr\":0.1,\
                 \"rows_per_second\":9.0}}\n"
            )
        };
        std::fs::write(&path, format!("{}{}{}{{\"ste", line(0), line(5), line(10))).unwrap();
        let before = read_metrics(&path).unwrap();
        assert_eq!(before.iter().map(|l| l.report.step).collect::<Vec<_>>(), [0, 5, 10]);

        let mut log = MetricsLog::open(&path, 10).unwrap();
        log.write(&before[2]).unwrap();
        assert_eq!(read_metrics(&path).unwrap(), before);
        assert_eq!(std::fs::read(&path).unwrap().iter().filter(|b| **b == b'\n').count(), 3);

        std::fs::write(&path, "not a line\n").unwrap();
        assert!(MetricsLog::open(&path, 10).is_err());
    }
}

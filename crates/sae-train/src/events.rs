//! The metrics log as a TensorBoard event file: one event for each logged step.

use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tfrecord::protobuf::event::What;
use tfrecord::protobuf::summary::{Value as Scalar, value::Value::SimpleValue};
use tfrecord::{
    Event, EventMeta, EventWriter, EventWriterConfig, Record as _, RecordIter, RecordReaderConfig,
    Summary,
};

use crate::{Error, MetricsLine, Result};

/// What the first event of a file says.
const FILE_VERSION: &str = "brain.Event:2";

/// Bytes of a record beside its data: length, and a checksum of each.
const RECORD_FRAME: u64 = 16;

/// The event file of a run; every event is flushed as it is written.
pub(crate) struct EventLog {
    writer: EventWriter<BufWriter<File>>,
    path: PathBuf,
}

impl EventLog {
    /// Goes on after the events of the lines of `kept`, writing those that are missing; all that
    /// follows them in the file is cut off.
    pub(crate) fn open(path: &Path, kept: &[MetricsLine]) -> Result<Self> {
        let options = OpenOptions::new().create(true).append(true).open(path);
        let file = options.map_err(|e| io(path, e))?;
        let bytes = std::fs::read(path).map_err(|e| io(path, e))?;
        let (n_events, length) = kept_events(&bytes, kept);
        file.set_len(length).map_err(|e| io(path, e))?;
        let config = EventWriterConfig { auto_flush: true };
        let writer = EventWriter::from_writer(BufWriter::new(file), config);
        let path = path.to_owned();
        let mut log = Self { writer: writer.map_err(|e| events(&path, e))?, path };
        if n_events == 0 {
            let mut version = EventMeta::with_step(0).build_empty();
            version.what = Some(What::FileVersion(FILE_VERSION.into()));
            log.append(version)?;
        }
        for line in &kept[n_events.saturating_sub(1)..] {
            log.write(line)?;
        }
        Ok(log)
    }

    pub(crate) fn write(&mut self, line: &MetricsLine) -> Result<()> {
        let json = serde_json::to_value(line).map_err(|e| io(&self.path, e.into()))?;
        let mut summary = Summary { value: Vec::new() };
        if let Value::Object(mut fields) = json {
            fields.remove("step");
            add_scalars("", &Value::Object(fields), &mut summary.value);
        }
        let step = line.report.step as i64;
        self.append(EventMeta::with_step(step).build_with_summary(summary))
    }

    fn append(&mut self, event: Event) -> Result<()> {
        self.writer.write_event(event).map_err(|e| events(&self.path, e))
    }
}

/// How many events of the file, the version among them, are whole and those of `kept`, and the
/// bytes they take.
fn kept_events(bytes: &[u8], kept: &[MetricsLine]) -> (usize, u64) {
    let (mut n_events, mut length) = (0, 0);
    let config = RecordReaderConfig { check_integrity: true };
    for record in RecordIter::<Vec<u8>, _>::from_reader(bytes, config) {
        let Ok(record) = record else { break };
        let n_bytes = record.len() as u64 + RECORD_FRAME;
        let Ok(event) = Event::from_bytes(record) else { break };
        let expected = match n_events {
            0 => matches!(&event.what, Some(What::FileVersion(version)) if version == FILE_VERSION),
            n => kept.get(n - 1).is_some_and(|line| line.report.step as i64 == event.step),
        };
        if !expected {
            break;
        }
        n_events += 1;
        length += n_bytes;
    }
    (n_events, length)
}

/// Each number, and each yes or no as 1 or 0, under its path.
fn add_scalars(path: &str, value: &Value, scalars: &mut Vec<Scalar>) {
    let number = match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let slash = if path.is_empty() { "" } else { "/" };
                add_scalars(&format!("{path}{slash}{name}"), value, scalars);
            }
            return;
        }
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        other => other.as_f64(),
    };
    scalars.extend(number.map(|number| Scalar {
        tag: path.to_owned(),
        value: Some(SimpleValue(number as f32)),
        ..Scalar::default()
    }));
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.into(), source }
}

fn events(path: &Path, error: tfrecord::Error) -> Error {
    match error {
        tfrecord::Error::IoError(source) => io(path, source),
        other => io(path, std::io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::StepReport;

    fn line(step: u64) -> MetricsLine {
        let report = StepReport {
            step,
            loss: 1.5 + step as f64,
            parts: BTreeMap::from([("auxk".to_owned(), 0.25)]),
            l0: 3.0,
            k_target: None,
            k_hat: None,
            alpha: None,
            hard: Some(true),
            dead: None,
            lr: 0.125,
        };
        MetricsLine { report, epoch: None, skipped: None, rows_per_second: 9.0 }
    }

    fn read(path: &Path) -> Vec<Event> {
        let config = RecordReaderConfig { check_integrity: true };
        let records = RecordIter::<Event, _>::open(path, config).unwrap();
        records.map(|event| event.unwrap()).collect()
    }

    fn steps(path: &Path) -> Vec<i64> {
        read(path)[1..].iter().map(|event| event.step).collect()
    }

    #[test]
    fn numbers_go_under_their_paths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        EventLog::open(&path, &[]).unwrap().write(&line(7)).unwrap();
        let events = read(&path);
        assert_eq!(events[0].what, Some(What::FileVersion(FILE_VERSION.into())));
        assert_eq!(events[1].step, 7);
        let Some(What::Summary(summary)) = &events[1].what else { panic!("{events:?}") };
        let found: BTreeMap<&str, _> =
            summary.value.iter().map(|v| (v.tag.as_str(), v.value.clone().unwrap())).collect();
        let expected = [
            ("loss", 8.5),
            ("parts/auxk", 0.25),
            ("l0", 3.0),
            ("hard", 1.0),
            ("lr", 0.125),
            ("rows_per_second", 9.0),
        ];
        assert_eq!(found, expected.map(|(tag, x)| (tag, SimpleValue(x))).into());
    }

    /// Whatever a kill left at the end, the file holds each kept step once, and the next.
    #[test]
    fn the_file_goes_on_after_the_kept_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let lines: Vec<MetricsLine> = (0..6).map(line).collect();
        let mut log = EventLog::open(&path, &[]).unwrap();
        lines.iter().for_each(|line| log.write(line).unwrap());
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for length in (0..=whole.len()).step_by(7) {
            for n_kept in [0, 3, 6] {
                std::fs::write(&path, &whole[..length]).unwrap();
                let mut log = EventLog::open(&path, &lines[..n_kept]).unwrap();
                log.write(&line(n_kept as u64)).unwrap();
                assert_eq!(steps(&path), (0..=n_kept as i64).collect::<Vec<_>>());
            }
        }
        std::fs::write(&path, vec![0; 4096]).unwrap();
        EventLog::open(&path, &lines[..2]).unwrap();
        assert_eq!(steps(&path), [0, 1], "zeros, as a power cut may leave, are no events");
    }
}

//! Training curves: the numbers of a metrics file, by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The training curves of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Curves {
    /// Steps at which metrics were logged.
    pub step: Vec<u64>,
    /// Values by name, one a step; none where a line has no such number.
    pub values: BTreeMap<String, Vec<Option<f64>>>,
}

impl Curves {
    /// Reads a metrics file: a JSON object a line, each with its `step`.
    ///
    /// Numbers inside nested objects get dotted names. Of more than `max_points` lines some are
    /// left out, evenly. A last line that a killed process left unfinished is left out too.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Metrics`] for a line that is no JSON object.
    pub fn read(path: &Path, max_points: usize) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Io { path: path.into(), source })?;
        let lines: Vec<&str> = text.rfind('\n').map_or("", |end| &text[..end]).lines().collect();
        let stride = lines.len().div_ceil(max_points.max(1)).max(1);
        let mut kept = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            // Counted from the end, so that the last line is always there.
            let parsed = if (lines.len() - 1 - index).is_multiple_of(stride) {
                serde_json::from_str(line).map(|line| kept.push(line))
            } else {
                serde_json::from_str::<Skipped>(line).map(drop)
            };
            let wrong = |e: serde_json::Error| Error::Metrics {
                path: path.into(),
                line: index + 1,
                got: e.to_string(),
            };
            parsed.map_err(wrong)?;
        }
        Ok(Self::of(&kept))
    }

    fn of(lines: &[Map<String, Value>]) -> Self {
        let mut curves = Self::default();
        for (n_before, line) in lines.iter().enumerate() {
            let mut numbers = BTreeMap::new();
            flatten("", line, &mut numbers);
            let step = line.get("step").and_then(Value::as_u64);
            numbers.remove("step");
            curves.step.push(step.unwrap_or(n_before as u64));
            for (name, value) in numbers {
                let values = curves.values.entry(name).or_default();
                values.resize(n_before, None);
                values.push(Some(value));
            }
        }
        let n_steps = curves.step.len();
        curves.values.values_mut().for_each(|values| values.resize(n_steps, None));
        curves
    }
}

/// A line that is checked to be an object and not kept.
#[derive(Deserialize)]
struct Skipped {}

/// Collects the numbers of an object under dotted names.
fn flatten(prefix: &str, object: &Map<String, Value>, numbers: &mut BTreeMap<String, f64>) {
    for (key, value) in object {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) => flatten(&name, inner, numbers),
            Value::Number(number) => numbers.extend(number.as_f64().map(|n| (name, n))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Curves> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        Curves::read(&path, 400)
    }

    #[test]
    fn numbers_by_name_with_gaps() {
        let text = "{\"step\": 50, \"loss\": 0.5, \"parts\": {\"auxk\": 1}, \"note\": \"x\"}\n\
                    {\"step\": 100, \"loss\": 0.25, \"k_hat\": 31.5}\n{\"step\": 15";
        let curves = read(text).unwrap();
        assert_eq!(curves.step, [50, 100]);
        assert_eq!(curves.values["loss"], [Some(0.5), Some(0.25)]);
        assert_eq!(curves.values["parts.auxk"], [Some(1.0), None]);
        assert_eq!(curves.values["k_hat"], [None, Some(31.5)]);
        assert_eq!(curves.values.len(), 3);
        assert_eq!(read("").unwrap(), Curves::default());
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_end() {
        let lines: String = (1..=10_000).map(|step| format!("{{\"step\": {step}}}\n")).collect();
        let curves = read(&lines).unwrap();
        assert!((200..=400).contains(&curves.step.len()));
        assert_eq!(curves.step.last(), Some(&10_000));
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = read("{\"step\": 1}\n[2]\n{}\n").unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl, line 2: expected a JSON object"), "{error}");
        // Also where the line would not be kept.
        let lines: String = (1..=1000)
            .map(|step| if step == 5 { "5\n".into() } else { format!("{{\"step\": {step}}}\n") })
            .collect();
        assert!(read(&lines).unwrap_err().to_string().contains("line 5"));
        let missing = Curves::read(Path::new("no/metrics.jsonl"), 9).unwrap_err().to_string();
        assert!(missing.starts_with("no/metrics.jsonl: "), "{missing}");
    }
}

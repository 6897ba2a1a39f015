//! Labels of the documents of a store, and what probes find of them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, read_json};

/// The file of labels in the folder of a store.
pub const LABELS_FILE: &str = "labels.json";

/// The version that is written and read.
const VERSION: u32 = 1;

/// What the documents of a store are labelled with (`labels.json`, by `softsae probe-data`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    version: u32,
    /// Name of the data.
    pub name: String,
    /// The labels, in the order of their names.
    pub labels: Vec<String>,
    /// The label of each document of the store, by its number among them.
    pub of_documents: Vec<u32>,
    /// Hash of the content of the store.
    pub store: String,
}

/// A question that is answered by yes or no: whether a document has a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelTask<'a> {
    /// Name of the data.
    pub name: &'a str,
    /// The label.
    pub label: &'a str,
    /// Its number.
    pub number: u32,
}

impl Labels {
    /// Labels of the documents of a store, whose labels are put in order.
    ///
    /// # Errors
    /// Fewer than two labels.
    pub fn new(name: &str, of_documents: &[String], store: &str) -> Result<Self> {
        let mut labels = of_documents.to_vec();
        labels.sort_unstable();
        labels.dedup();
        let number = |label: &String| labels.partition_point(|other| other < label) as u32;
        let of_documents = of_documents.iter().map(number).collect();
        let (name, store) = (name.to_owned(), store.to_owned());
        let made = Self { version: VERSION, name, labels, of_documents, store };
        made.check()?;
        Ok(made)
    }

    /// Reads and checks the labels of the store in `folder`.
    ///
    /// # Errors
    /// An error that names the file and the key.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(LABELS_FILE);
        let labels: Self = read_json(&path)?;
        labels.check().map_err(|e| e.in_file(&path))?;
        Ok(labels)
    }

    fn check(&self) -> Result<()> {
        if self.version != VERSION {
            return Err(Error::value("version", VERSION.to_string(), self.version));
        }
        if self.labels.len() < 2 || self.labels.windows(2).any(|pair| pair[0] >= pair[1]) {
            let got = format!("{:?}", self.labels);
            return Err(Error::value("labels", "two labels or more, in order", got));
        }
        let n = self.labels.len();
        match self.of_documents.iter().find(|label| **label as usize >= n) {
            None => Ok(()),
            Some(label) => Err(Error::value("of_documents", format!("numbers below {n}"), label)),
        }
    }

    /// What is asked: of two labels whether it is the second, of more whether it is each.
    #[must_use]
    pub fn tasks(&self) -> Vec<LabelTask<'_>> {
        let task = |(number, label)| LabelTask { name: &self.name, label, number };
        let all = (0..).zip(self.labels.iter().map(String::as_str)).map(task);
        all.skip(usize::from(self.labels.len() == 2)).collect()
    }
}

/// What probes find of a task (`probes` of `eval.json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskProbes {
    /// Name of the data.
    pub task: String,
    /// The label that is told from the others.
    pub label: String,
    /// Documents that probes are fitted to.
    pub n_train: u64,
    /// Documents that they are scored on.
    pub n_test: u64,
    /// Share of the documents that have the label.
    pub share: f64,
    /// A probe on the activations themselves.
    pub dense: ProbeResult,
    /// Probes on the k features that differ most.
    pub sparse: Vec<ProbeResult>,
}

/// A probe and its scores on the test documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The features, the one that differs most first; empty for all dimensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<usize>,
    /// The inverse of the penalty, as it was chosen.
    pub c: f64,
    /// Area under the receiver's curve.
    pub auc: f64,
    /// F1 of the label.
    pub f1: f64,
    /// Share of documents that are told right.
    pub accuracy: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[&str]) -> Result<Labels> {
        let of: Vec<String> = of.iter().map(|&label| label.into()).collect();
        Labels::new("mails", &of, "hash")
    }

    #[test]
    fn two_labels_are_one_task_and_more_are_one_each() {
        let two = labels(&["spam", "ham", "spam"]).unwrap();
        assert_eq!(
            (&two.labels[..], &two.of_documents[..]),
            (&["ham".into(), "spam".into()][..], &[1, 0, 1][..])
        );
        assert_eq!(two.tasks(), [LabelTask { name: "mails", label: "spam", number: 1 }]);
        let three = labels(&["c", "a", "b", "a"]).unwrap();
        let asked: Vec<_> =
            three.tasks().iter().map(|task| (task.label.to_owned(), task.number)).collect();
        assert_eq!(asked, [("a".into(), 0), ("b".into(), 1), ("c".into(), 2)]);
    }

    #[test]
    fn labels_that_are_none_are_refused() {
        let error = labels(&["a", "a"]).unwrap_err().to_string();
        assert_eq!(error, "`labels`: expected two labels or more, in order, got [\"a\"]");
        let folder = tempfile::tempdir().unwrap();
        let good = serde_json::to_value(labels(&["a", "b"]).unwrap()).unwrap();
        let read = |key: &str, value: serde_json::Value| {
            let mut file = good.clone();
            file[key] = value;
            std::fs::write(folder.path().join(LABELS_FILE), file.to_string()).unwrap();
            Labels::read(folder.path()).map_err(|e| e.to_string())
        };
        assert!(read("name", "mails".into()).is_ok());
        for (key, value) in [
            ("version", serde_json::json!(2)),
            ("labels", serde_json::json!(["b", "a"])),
            ("of_documents", serde_json::json!([0, 2])),
            ("more", serde_json::json!(1)),
        ] {
            let error = read(key, value).unwrap_err();
            assert!(error.contains(LABELS_FILE) && error.contains(key), "{error}");
        }
    }
}

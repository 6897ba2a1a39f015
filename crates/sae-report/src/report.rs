//! What a report tells: results, training curves, configuration.

use std::collections::BTreeMap;
use std::path::Path;

use sae_config::{SweepResults, read_json};
use serde::Serialize;

use crate::{Curves, Error, Result};

/// The contents of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The runs.
    pub results: SweepResults,
    /// Training curves by run id.
    pub curves: BTreeMap<String, Curves>,
    /// The text of the sweep file.
    pub sweep: Option<String>,
}

impl Report {
    /// A report of results alone.
    #[must_use]
    pub const fn new(results: SweepResults) -> Self {
        Self { results, curves: BTreeMap::new(), sweep: None }
    }

    /// Reads the files of a sweep folder; a run without a metrics file has no curves.
    ///
    /// # Errors
    /// An error that names the file which is missing or broken.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut report = Self::new(read_json(&folder.join("results.json"))?);
        for run in &report.results.runs {
            let path = folder.join("runs").join(&run.run_id).join("metrics.jsonl");
            if path.exists() {
                report.curves.insert(run.run_id.clone(), Curves::read(&path)?);
            }
        }
        let path = folder.join("sweep.toml");
        if path.exists() {
            let text = std::fs::read_to_string(&path);
            report.sweep = Some(text.map_err(|source| Error::Io { path, source })?);
        }
        Ok(report)
    }
}

//! What the benches share: the medians of a run, the ratios between them, as a table and a file.
//!
//! A bench names each of its measurements, and for those that a claim is about the measurement
//! that it is compared with. After criterion is done, [`Table::finish`] prints the ratios and
//! writes them to `target/bench/NAME.json`, a list of `{id, median_ns, ratio_to, ratio}`.

mod device;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use atomic_write_file::AtomicWriteFile;
use serde::{Deserialize, Serialize};

pub use device::{device, id_suffix, measure};

/// The measurements of one bench, in the order of the table.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    rows: Vec<(String, Option<String>)>,
    start: SystemTime,
}

/// One line of the file.
#[derive(Debug, Serialize)]
struct Line {
    id: String,
    median_ns: f64,
    ratio_to: Option<String>,
    ratio: Option<f64>,
}

impl Table {
    /// An empty table of the bench `name`.
    pub fn new(name: &'static str) -> Self {
        Self { name, rows: Vec::new(), start: SystemTime::now() }
    }

    /// Adds the measurement `id`, compared with the measurement `ratio_to` if there is one.
    pub fn add(&mut self, id: impl Into<String>, ratio_to: Option<&str>) {
        self.rows.push((id.into(), ratio_to.map(String::from)));
    }

    /// The median of a measurement in nanoseconds, if it was taken.
    pub fn median_ns(&self, id: &str) -> Option<f64> {
        #[derive(Deserialize)]
        struct Estimates {
            median: Estimate,
        }
        #[derive(Deserialize)]
        struct Estimate {
            point_estimate: f64,
        }
        let home = std::env::var_os("CRITERION_HOME")
            .map_or_else(|| target().join("criterion"), PathBuf::from);
        let path = home.join(id.replace('/', "_")).join("new/estimates.json");
        // Criterion's folder also holds what earlier runs have measured.
        let is_of_this_run = fs::metadata(&path).ok()?.modified().ok()? >= self.start;
        let bytes = is_of_this_run.then(|| fs::read(path).ok()).flatten()?;
        let estimates: Estimates = serde_json::from_slice(&bytes).ok()?;
        Some(estimates.median.point_estimate)
    }

    /// Prints the table and writes the file; measurements that were not taken are left out.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(&self) -> io::Result<()> {
        let lines: Vec<Line> = self
            .rows
            .iter()
            .filter_map(|(id, ratio_to)| {
                let median_ns = self.median_ns(id)?;
                let reference = ratio_to.as_deref().and_then(|id| self.median_ns(id));
                let ratio = reference.map(|reference| median_ns / reference);
                Some(Line { id: id.clone(), median_ns, ratio_to: ratio_to.clone(), ratio })
            })
            .collect();
        let width = lines.iter().map(|line| line.id.len()).max().unwrap_or(0);
        println!("\n{:width$}  {:>12}  {:>7}  compared with", "id", "median ms", "ratio");
        for Line { id, median_ns, ratio_to, ratio } in &lines {
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
            let ratio_to = ratio_to.as_deref().unwrap_or("");
            println!("{id:width$}  {:>12.3}  {ratio:>7}  {ratio_to}", median_ns / 1e6);
        }
        let folder = target().join("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", self.name));
        let mut file = AtomicWriteFile::open(&path)?;
        file.write_all(&serde_json::to_vec_pretty(&lines)?)?;
        file.write_all(b"\n")?;
        file.commit()?;
        println!("\nwritten to {}", path.display());
        Ok(())
    }
}

/// The folder that cargo builds in.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
}

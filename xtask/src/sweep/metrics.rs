//! How far a training run is, from the last line of its `metrics.jsonl`.

use std::path::Path;

use serde_json::Value;

use super::child;

/// The last whole line of a metrics file.
pub(super) struct Metrics(Value);

impl Metrics {
    /// Reads the last line; none before the first is written.
    pub(super) fn last(path: &Path) -> Option<Self> {
        let text = child::tail(path, 2);
        let whole = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).next();
        whole.map(Self)
    }

    /// Steps done; the file counts them from 0.
    pub(super) fn n_done(&self) -> u64 {
        self.0["step"].as_u64().map_or(0, |step| step + 1)
    }

    /// Rows trained on a second, lately.
    pub(super) fn rows_per_second(&self) -> Option<f64> {
        self.0["rows_per_second"].as_f64().filter(|rate| *rate > 0.0)
    }
}

impl std::fmt::Display for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut gap = "";
        for key in ["loss", "l0", "k_hat"] {
            if let Some(value) = self.0[key].as_f64() {
                write!(f, "{gap}{key} {value:.3}")?;
                gap = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert!(Metrics::last(&path).is_none());
        let lines = "{\"step\": 50, \"loss\": 0.5}\n{\"step\": 100, \"loss\": 0.25, \"l0\": 32.0, \"rows_per_second\": 8.5}\n{\"ste";
        std::fs::write(&path, lines).unwrap();
        let last = Metrics::last(&path).unwrap();
        assert_eq!(last.n_done(), 101);
        assert_eq!(last.rows_per_second(), Some(8.5));
        assert_eq!(last.to_string(), "loss 0.250, l0 32.000");
    }
}

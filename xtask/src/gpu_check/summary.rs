//! The results of a check as text, JSON and CSV.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::steps::Done;
use super::training::Pair;

/// A measurement, and what it is compared with.
#[derive(Debug, Serialize, Deserialize)]
struct Measurement {
    id: String,
    median_ns: f64,
    ratio_to: Option<String>,
    ratio: Option<f64>,
}

/// A step beside one of PyTorch's.
#[derive(Debug, Serialize, Deserialize)]
struct Step {
    id: String,
    decode: String,
    torch: String,
    torch_median_ns: f64,
    ratio: f64,
}

/// Everything that a check found.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    device: String,
    machine: Vec<(String, String)>,
    parts: Vec<Done>,
    training: Vec<Pair>,
    measurements: Vec<Measurement>,
}

impl Summary {
    /// Puts the parts together with the measurements in the folder of results.
    pub(super) fn new(
        device: &str,
        machine: Vec<(String, String)>,
        parts: Vec<Done>,
        training: Vec<Pair>,
        results: &Path,
    ) -> Self {
        // A bench that failed has written nothing, as its part says.
        let read = |name: &str| sae_config::read_json(&results.join("bench").join(name)).ok();
        let tables = ["soft-topk.json", "train-step.json"].into_iter().filter_map(read);
        let mut measurements: Vec<Measurement> = tables.flat_map(|t: Vec<Measurement>| t).collect();
        let against = results.join("bench/against-pytorch.json");
        let steps: Vec<Step> = sae_config::read_json(&against).unwrap_or_default();
        measurements.extend(steps.into_iter().map(|step| Measurement {
            median_ns: step.ratio * step.torch_median_ns,
            ratio_to: Some(format!("PyTorch {}, decoded by {}", step.torch, step.decode)),
            ratio: Some(step.ratio),
            id: step.id,
        }));
        Self { device: device.to_owned(), machine, parts, training, measurements }
    }

    /// Parts that failed or were left out.
    pub(super) fn failures(&self) -> usize {
        self.parts.iter().filter(|part| !part.is_ok()).count()
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("device  {}\n", self.device);
        for (key, value) in &self.machine {
            let _ = writeln!(text, "{key:7} {value}");
        }
        text += "\npart                       seconds  result\n";
        for Done { name, result, seconds } in &self.parts {
            let _ = writeln!(text, "{name:26} {seconds:>7.1}  {result}");
        }
        text += "\ntraining     R² cpu  R² device   L0 cpu  L0 device   s cpu  s device\n";
        for Pair { architecture, r2, l0, seconds } in &self.training {
            let _ = writeln!(
                text,
                "{architecture:12} {:>6.4} {:>10.4} {:>8.2} {:>10.2} {:>7.1} {:>9.1}",
                r2[0], r2[1], l0[0], l0[1], seconds[0], seconds[1]
            );
        }
        text +=
            "\nmeasurement                                            ms    ratio  compared with\n";
        for Measurement { id, median_ns, ratio_to, ratio } in &self.measurements {
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
            let ratio_to = ratio_to.as_deref().unwrap_or_default();
            let _ = writeln!(text, "{id:48} {:>9.3} {ratio:>8}  {ratio_to}", median_ns / 1e6);
        }
        text
    }

    fn csv(&self) -> String {
        let mut csv = "id,median_ns,ratio,compared_with\n".to_owned();
        for Measurement { id, median_ns, ratio_to, ratio } in &self.measurements {
            let ratio = ratio.map_or(String::new(), |ratio| ratio.to_string());
            let ratio_to = ratio_to.as_deref().unwrap_or_default();
            let _ = writeln!(csv, "{id},{median_ns},{ratio},\"{ratio_to}\"");
        }
        csv
    }

    /// Writes `summary.txt`, `summary.json` and `summary.csv`.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        sae_config::write_json(&folder.join("summary.json"), self)?;
        for (name, text) in [("summary.txt", self.text()), ("summary.csv", self.csv())] {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_and_what_was_measured_is_in_every_form() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bench")).unwrap();
        let steps = r#"[{"id": "train-step/topk/8x4x16x2/cuda:0", "decode": "bag", "median_ns": 30.0,
            "torch": "2.11.0", "torch_median_ns": 60.0, "ratio": 0.5}]"#;
        std::fs::write(folder.path().join("bench/against-pytorch.json"), steps).unwrap();
        let done = |name: &str, result: &str| Done {
            name: name.to_owned(),
            result: result.to_owned(),
            seconds: 1.0,
        };
        let parts = vec![done("tests", "ok"), done("bench", "failed (exit status: 1)")];
        let pair = Pair {
            architecture: "soft".to_owned(),
            r2: [0.9, 0.91],
            l0: [16.0, 16.5],
            seconds: [2.0, 1.0],
        };
        let machine = vec![("gpu".to_owned(), "a card, 80 GB".to_owned())];
        let summary = Summary::new("cuda:0", machine, parts, vec![pair], folder.path());
        assert_eq!(summary.failures(), 1);
        summary.write(folder.path()).unwrap();
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        for word in
            ["a card, 80 GB", "failed (exit status: 1)", "0.9100", "0.500", "decoded by bag"]
        {
            assert!(read("summary.txt").contains(word), "{word}");
        }
        assert!(read("summary.json").contains("\"result\": \"failed (exit status: 1)\""));
        let line = "train-step/topk/8x4x16x2/cuda:0,30,0.5,\"PyTorch 2.11.0, decoded by bag\"";
        assert!(read("summary.csv").contains(line));
    }
}

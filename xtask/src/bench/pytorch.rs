//! Steps of plain PyTorch at the shapes that were just measured, and the ratio to them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::exit::note;
use crate::process;

/// A measurement of ours.
#[derive(Debug, Deserialize)]
struct Ours {
    id: String,
    median_ns: f64,
}

/// What the script writes.
#[derive(Debug, Deserialize)]
struct Theirs {
    torch: String,
    steps: Vec<Step>,
}

/// A step of PyTorch.
#[derive(Debug, Deserialize)]
struct Step {
    id: String,
    decode: String,
    median_ns: f64,
}

/// A step of ours beside one of PyTorch's.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    id: String,
    median_ns: f64,
    torch: String,
    decode: String,
    torch_median_ns: f64,
    ratio: f64,
}

/// Measures PyTorch's steps beside those in `train-step.json` of the folder, prints the ratios and
/// writes them to `against-pytorch.json`; without PyTorch it says so.
pub(super) fn compare(script: &Path, device: &str, folder: &Path) -> Result<()> {
    let ours: Vec<Ours> = sae_config::read_json(&folder.join("train-step.json"))?;
    let (shapes, precisions) = measured(&ours);
    if shapes.is_empty() {
        return Ok(());
    }
    let python = PathBuf::from(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
    if let Err(why) = imports_torch(&python) {
        note(&format!("steps of PyTorch are left out: {why}"));
        return Ok(());
    }
    let out = folder.join("pytorch.json");
    let mut command = Command::new(&python);
    command.arg(script).args(["--device", device, "--shapes", &shapes.join(",")]);
    command.args(["--precisions", &precisions.join(",")]).arg("--out").arg(&out);
    process::run(&mut command, "measuring the steps of PyTorch")?;
    let lines = lines(&ours, sae_config::read_json(&out)?);
    say!("\n{:46} {:>9} {:>9} {:>6}  decoded by", "id", "ms", "PyTorch", "ratio");
    for line in &lines {
        let (ours, theirs) = (line.median_ns / 1e6, line.torch_median_ns / 1e6);
        say!("{:46} {ours:>9.3} {theirs:>9.3} {:>6.3}  {}", line.id, line.ratio, line.decode);
    }
    sae_config::write_json(&folder.join("against-pytorch.json"), &lines)?;
    Ok(())
}

/// Shapes and precisions of the steps that PyTorch takes too.
fn measured(ours: &[Ours]) -> (Vec<String>, Vec<String>) {
    let (mut shapes, mut precisions) = (BTreeSet::new(), BTreeSet::new());
    for line in ours {
        let mut parts = line.id.split('/').skip(1);
        let (Some(rule), Some(shape)) = (parts.next(), parts.next()) else { continue };
        let (rule, precision) = match rule.strip_suffix("-bf16") {
            Some(rule) => (rule, "bf16"),
            None => (rule, "f32"),
        };
        if ["topk", "batch-topk"].contains(&rule) {
            shapes.insert(shape.to_owned());
            precisions.insert(precision.to_owned());
        }
    }
    (shapes.into_iter().collect(), precisions.into_iter().rev().collect())
}

fn lines(ours: &[Ours], theirs: Theirs) -> Vec<Line> {
    let Theirs { torch, steps } = theirs;
    let line = |step: Step| {
        let ours = ours.iter().find(|line| line.id == step.id)?;
        Some(Line {
            id: step.id,
            median_ns: ours.median_ns,
            torch: torch.clone(),
            decode: step.decode,
            torch_median_ns: step.median_ns,
            ratio: ours.median_ns / step.median_ns,
        })
    };
    steps.into_iter().filter_map(line).collect()
}

/// Whether an interpreter imports PyTorch; else why not.
fn imports_torch(python: &Path) -> Result<()> {
    let mut probe = Command::new(python);
    probe.args(["-c", "import torch"]).stdin(Stdio::null());
    let output = probe.output().with_context(|| format!("cannot start `{}`", python.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().last().unwrap_or_default().to_owned();
        anyhow::bail!("`{}`: {last}", python.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_compared_with_those_of_the_same_id() {
        let ours = [
            ("train-step/gemm/8x4x16x2/cuda:0", 10.0),
            ("train-step/topk/8x4x16x2/cuda:0", 30.0),
            ("train-step/topk-bf16/8x4x16x2/cuda:0", 20.0),
            ("train-step/soft/9x4x16x2/cuda:0", 50.0),
        ];
        let ours = ours.map(|(id, median_ns)| Ours { id: id.to_owned(), median_ns });
        let (shapes, precisions) = measured(&ours);
        assert_eq!(shapes, ["8x4x16x2"]);
        assert_eq!(precisions, ["f32", "bf16"]);
        let text = r#"{"torch": "2.11.0", "steps": [
            {"id": "train-step/topk/8x4x16x2/cuda:0", "decode": "dense", "median_ns": 60.0},
            {"id": "train-step/batch-topk/8x4x16x2/cuda:0", "decode": "dense", "median_ns": 9.0}]}"#;
        let lines = lines(&ours, serde_json::from_str(text).unwrap());
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].ratio, lines[0].torch.as_str()), (0.5, "2.11.0"));
    }

    #[test]
    fn an_interpreter_without_torch_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1";
        let python = crate::pip::tests::fake_python(folder.path(), script);
        let why = imports_torch(&python).unwrap_err().to_string();
        assert!(why.ends_with("No module named 'torch'"), "{why}");
    }
}

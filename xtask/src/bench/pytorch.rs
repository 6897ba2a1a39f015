//! Plain PyTorch doing what was just measured, and the ratio to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::exit::note;
use crate::process;

/// A script that measures in PyTorch what a bench measures.
#[derive(Debug)]
pub(crate) struct Script {
    /// The bench.
    pub(super) bench: &'static str,
    /// Its name in `benches/pytorch`.
    pub(crate) file: &'static str,
    /// The option that says what is measured.
    option: &'static str,
    /// What the option takes of an id that the script knows, and the precision.
    of_id: fn(&str) -> Option<(&str, &'static str)>,
    /// Its file of results, and that of the ratios.
    results: [&'static str; 2],
}

pub(crate) const SCRIPTS: [Script; 2] = [
    Script {
        bench: "train-step",
        file: "train_step.py",
        option: "--shapes",
        of_id: |id| {
            let mut parts = id.split('/').skip(1);
            let (rule, precision) = precision(parts.next()?);
            let shape = parts.next().filter(|_| ["topk", "batch-topk"].contains(&rule));
            shape.map(|shape| (shape, precision))
        },
        results: ["pytorch.json", "against-pytorch.json"],
    },
    Script {
        bench: "harvest",
        file: "harvest.py",
        option: "--hosts",
        of_id: |id| id.split('/').nth(1).map(precision),
        results: ["harvest-pytorch.json", "harvest-against-pytorch.json"],
    },
];

/// What a name says of the precision, and the rest of it.
fn precision(name: &str) -> (&str, &'static str) {
    name.strip_suffix("-bf16").map_or((name, "f32"), |name| (name, "bf16"))
}

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

/// A measurement of PyTorch.
#[derive(Debug, Deserialize)]
struct Step {
    id: String,
    decode: Option<String>,
    median_ns: f64,
}

/// A measurement of ours beside one of PyTorch's.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    id: String,
    median_ns: f64,
    torch: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode: Option<String>,
    torch_median_ns: f64,
    ratio: f64,
}

/// Measures with PyTorch, by a script in `sources`, what the results of its bench in `folder` hold;
/// prints the ratios and writes them there. Without PyTorch it says so.
pub(super) fn compare(script: &Script, sources: &Path, device: &str, folder: &Path) -> Result<()> {
    let ours: Vec<Ours> = sae_config::read_json(&folder.join(format!("{}.json", script.bench)))?;
    let (wanted, precisions) = measured(script, &ours);
    if wanted.is_empty() {
        return Ok(());
    }
    let python = PathBuf::from(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
    if let Err(why) = imports_torch(&python) {
        note(&format!("PyTorch is left out: {why}"));
        return Ok(());
    }
    let [results, ratios] = script.results.map(|name| folder.join(name));
    let mut command = Command::new(&python);
    command.arg(sources.join(script.file)).args(["--device", device]);
    // PyTorch as it comes: `.cargo/config.toml` sets this for our own programs, and a bundle's `run`.
    command.env_remove("OMP_WAIT_POLICY");
    command.args([script.option, &wanted.join(","), "--precisions", &precisions.join(",")]);
    process::run(command.arg("--out").arg(&results), "measuring PyTorch")?;
    let lines = lines(&ours, sae_config::read_json(&results)?);
    let has_decoders = lines.iter().any(|line| line.decode.is_some());
    let last = if has_decoders { "  decoded by" } else { "" };
    say!("\n{:46} {:>9} {:>9} {:>6}{last}", "id", "ms", "PyTorch", "ratio");
    for line in &lines {
        let (ours, theirs) = (line.median_ns / 1e6, line.torch_median_ns / 1e6);
        let decode = line.decode.as_deref().unwrap_or_default();
        say!("{:46} {ours:>9.3} {theirs:>9.3} {:>6.3}  {decode}", line.id, line.ratio);
    }
    sae_config::write_json(&ratios, &lines)?;
    Ok(())
}

/// What a script is to measure, and in which precisions.
fn measured(script: &Script, ours: &[Ours]) -> (Vec<String>, Vec<String>) {
    let (mut wanted, mut precisions) = (BTreeSet::new(), BTreeSet::new());
    for (of_id, precision) in ours.iter().filter_map(|line| (script.of_id)(&line.id)) {
        wanted.insert(of_id.to_owned());
        precisions.insert(precision.to_owned());
    }
    (wanted.into_iter().collect(), precisions.into_iter().rev().collect())
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
        let (shapes, precisions) = measured(&SCRIPTS[0], &ours);
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
    fn hosts_are_named_without_the_precision() {
        let ours = ["harvest/vit/cuda:0", "harvest/vit-bf16/cuda:0", "harvest/gpt2/cuda:0"]
            .map(|id| Ours { id: id.to_owned(), median_ns: 1.0 });
        let (hosts, precisions) = measured(&SCRIPTS[1], &ours);
        assert_eq!(hosts, ["gpt2", "vit"]);
        assert_eq!(precisions, ["f32", "bf16"]);
    }

    #[test]
    fn every_script_is_there_and_has_a_bench() {
        let sources = crate::workspace::Workspace::find().root().join("benches/pytorch");
        for script in &SCRIPTS {
            assert!(sources.join(script.file).is_file(), "{}", script.file);
            assert!(super::super::BENCHES.iter().any(|(name, _)| *name == script.bench));
        }
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

//! Pages of features as files of other tools.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{encoded, files, made};
use crate::{fail, str, succeed};

/// Arguments that export feature pages.
fn export(pages: &Path, format: &str, out: &Path, more: &[&str]) -> Vec<String> {
    let all = ["features", "export", str(pages), "--format", format, "--out", str(out)];
    all.into_iter().chain(more.iter().copied()).map(String::from).collect()
}

/// Whether the features of files of SAEDashboard are those of the codes, and how many there are.
fn check_dashboard(made: &Path, codes: &[Vec<f32>]) -> usize {
    let mut n_seen = 0;
    for batch in 0..2 {
        let text = fs::read_to_string(made.join(format!("batch-{batch}.json"))).expect("reads");
        let batch: Value = serde_json::from_str(&text).expect("JSON");
        for found in batch["features"].as_array().expect("features") {
            let column: Vec<f32> = codes.iter().map(|row| row[n_seen]).collect();
            let n_active = column.iter().filter(|value| **value != 0.0).count();
            assert_eq!(found["feature_index"], n_seen);
            assert_eq!(found["frac_nonzero"], n_active as f64 / codes.len() as f64);
            assert_eq!(found["pos_str"].as_array().expect("tokens").len(), 10);
            assert_eq!(found["neuron_alignment_indices"].as_array().expect("numbers").len(), 3);
            let largest = column.iter().copied().fold(0.0, f32::max);
            if let Some(first) = found["activations"].as_array().and_then(|all| all.first()) {
                let own = first["qualifying_token_index"].as_u64().expect("a place") as usize;
                assert_eq!(first["values"][own].as_f64().expect("a value") as f32, largest);
                assert!(first["tokens"][own].as_str().expect("a text").starts_with('w'));
            }
            n_seen += 1;
        }
    }
    n_seen
}

#[test]
fn pages_become_files_of_other_tools() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    made(&at, "name = \"soft\"\nk = 4");
    let (checkpoint, store, host, pages) =
        (at("run/checkpoint"), at("store"), at("host"), at("pages"));
    let features = ["features", str(&checkpoint), "--data", str(&store), "--host", str(&host)];
    succeed(features.into_iter().chain(["--out", str(&pages)]));
    let before = files(&pages);
    let out = at("out");
    let named = |format: &str, set: &str| {
        export(&pages, format, &out, &["--model", "tiny-llama", "--set", set])
    };
    let succeeded = |args: &[String]| succeed(args.iter().map(String::as_str));
    let refused = |args: &[String], words: &[&str]| {
        fail(args.iter().map(String::as_str), 2, words);
    };
    let printed = succeeded(&named("saedashboard", "mine-res"));
    let made = out.join("tiny-llama/1-mine-res");
    assert_eq!(printed, format!("{}\n", made.display()));
    let codes = encoded(&checkpoint, &store, &at("codes"));
    assert_eq!(check_dashboard(&made, &codes), 256);
    refused(&named("saedashboard", "mine-res"), &["--out: expected", "has files"]);
    let printed = succeeded(&named("neuronpedia", "mine"));
    let made = Path::new(printed.trim());
    for name in ["release.jsonl", "model.jsonl", "sourceset.jsonl", "source.jsonl"] {
        let text = fs::read_to_string(made.join(name)).expect("reads");
        assert_eq!(text.lines().count(), 1);
        serde_json::from_str::<Value>(&text).expect("JSON");
    }
    for name in ["features", "activations"] {
        assert_eq!(fs::read_dir(made.join(name)).expect("a folder").count(), 2);
    }
    assert_eq!(files(&pages), before, "what is read stays as it is");

    refused(&named("neuronpedia", "a/b"), &["--set: expected at most 200 letters", "a/b"]);
    refused(&named("sae_vis", "mine-res"), &["saedashboard", "neuronpedia"]);
    let elsewhere =
        |pages: &Path, out: &Path| export(pages, "neuronpedia", out, &["--set", "mine-res"]);
    refused(&elsewhere(&at("nothing"), &at("new")), &["index.js"]);
    refused(&elsewhere(&pages, &pages), &["--out: expected a place"]);
    let plain = at("plain");
    succeed(["features", str(&checkpoint), "--data", str(&store), "--out", str(&plain)]);
    refused(&elsewhere(&plain, &at("new")), &["feature pages: expected those of tokens"]);
    assert!(!at("new").exists());
}

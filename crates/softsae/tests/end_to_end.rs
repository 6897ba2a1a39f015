//! Harvest, inspect, train, resume, eval and encode on SmolLM2.

use std::fs;
use std::path::Path;

use sae_config::Evaluation;

use crate::{run_toml, smollm2, str, succeed};

/// Public-domain prose (Dickens, A Tale of Two Cities) and the shape of a list.
const TEXT: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, \
    it was the age of foolishness, it was the epoch of belief, it was the epoch of incredulity, \
    it was the season of Light, it was the season of Darkness, it was the spring of hope, it was \
    the winter of despair, we had everything before us, we had nothing before us, we were all \
    going direct to Heaven, we were all going direct the other way.\n";

#[test]
fn from_text_to_cross_entropy_recovered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let prose = at("a text, with spaces é.txt");
    let long: String = (0..12).map(|i| format!("Chapter {i}. {TEXT}")).collect();
    fs::write(&prose, long).expect("writes");
    let (host, store, codes) = (smollm2(), at("store"), at("codes"));

    let hook = ["--hook", "resid_post.3", "--context-length", "64"];
    let harvest = ["harvest", "--host", str(&host), "--text", str(&prose), "--out", str(&store)];
    succeed(harvest.into_iter().chain(hook));
    let inspected = succeed(["inspect", str(&store)]);
    assert!(inspected.contains("576") && inspected.contains("resid_post.3"), "{inspected}");

    let mut fidelity = Vec::new();
    for (k, architecture) in [
        (4, "name = \"topk\"\nk = 4"),
        (32, "name = \"topk\"\nk = 32"),
        (16, "name = \"batch_topk\"\nk = 16"),
        (16, "name = \"soft\"\nk = 16\nhard_steps = 10"),
    ] {
        let (config, run) = (at("run.toml"), at(&format!("run-{}", fidelity.len())));
        fs::write(&config, run_toml(&store, architecture, 60)).expect("writes");
        succeed(["train", str(&config), "--out", str(&run)]);
        let (checkpoint, out) = (run.join("checkpoint"), run.join("eval.json"));
        let data = ["eval", str(&checkpoint), "--data", str(&store), "--out", str(&out)];
        let splice = ["--host", str(&host), "--text", str(&prose), "--context-length", "64"];
        let bound = ["--max-tokens", "192"];
        let printed = succeed(data.into_iter().chain(splice).chain(bound));
        assert!(printed.contains("CE recovered"), "{printed}");
        let evaluation: Evaluation = sae_config::read_json(&out).expect("a result");
        check(&evaluation, k as f64, architecture);
        fidelity.push(evaluation.reconstruction.r2);
    }
    assert!(fidelity[1] > fidelity[0], "R² must rise with k: {fidelity:?}");

    let checkpoint = at("run-3").join("checkpoint");
    succeed(["encode", str(&checkpoint), "--data", str(&store), "--out", str(&codes)]);
    assert!(codes.join("codes.json").is_file() && codes.join("codes-00000.safetensors").is_file());
    assert!(succeed(["inspect", str(&checkpoint)]).contains("k_estimator"));
}

fn check(evaluation: &Evaluation, k: f64, architecture: &str) {
    let l0 = evaluation.sparsity.l0_mean;
    let slack = if architecture.contains("\"topk\"") { 1e-9 } else { k };
    assert!((l0 - k).abs() <= slack, "{architecture}: L0 {l0}, expected about {k}");
    let r2 = evaluation.reconstruction.r2;
    assert!(r2 > 0.0 && r2 < 1.0, "{architecture}: R² {r2}");
    let ce = evaluation.cross_entropy.as_ref().expect("a host was given");
    assert!(ce.clean < ce.spliced && ce.spliced < ce.zero, "{architecture}: {ce:?}");
}

#[test]
fn an_interrupted_run_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (prose, store, host) = (at("prose.txt"), at("store"), smollm2());
    fs::write(&prose, TEXT.repeat(6)).expect("writes");
    let harvest = ["harvest", "--host", str(&host), "--text", str(&prose), "--out", str(&store)];
    succeed(harvest.into_iter().chain(["--hook", "attn_out.0"]));
    let config = at("run.toml");
    let soft = "name = \"soft\"\nk = 8\nk_anneal_steps = 20\nhard_steps = 20";
    let text = run_toml(&store, soft, 120) + "checkpoint_every = 10\n";
    fs::write(&config, text).expect("writes");

    let (whole, killed) = (at("whole"), at("killed"));
    succeed(["train", str(&config), "--out", str(&whole)]);
    kill_after_first_checkpoint(&config, &killed);
    succeed(["train", str(&config), "--out", str(&killed), "--resume"]);
    let weights = |run: &Path| fs::read(run.join("checkpoint/sae.safetensors")).expect("weights");
    assert!(weights(&whole) == weights(&killed), "resumed weights differ");
    let steps = |run: &Path| {
        let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
        let step = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
            line["step"].as_u64().expect("a step")
        };
        text.lines().map(step).collect::<Vec<_>>()
    };
    assert_eq!(steps(&whole), steps(&killed));
}

/// Starts a run and kills it (SIGKILL) once it has written a checkpoint.
fn kill_after_first_checkpoint(config: &Path, out: &Path) {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_softsae"))
        .args(["train", str(config), "--out", str(out)])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("softsae starts");
    while !out.join("checkpoint").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "ended without a checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
}

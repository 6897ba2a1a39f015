//! The memory a run will take, and where its time went.

use std::fs;

use crate::{fail, run_toml, str, succeed};

#[test]
fn a_plan_is_printed_and_one_that_cannot_fit_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let rows: Vec<u8> =
        (0..200 * 16).flat_map(|i| ((i as f32 * 0.37).sin()).to_le_bytes()).collect();
    let (store, config, out) = (at("rows_200_16.npy"), at("run.toml"), at("out"));
    fs::write(&store, rows).expect("writes");
    let text = run_toml(&store, "name = \"topk\"\nk = 4", 10);
    fs::write(&config, &text).expect("writes");
    let plan = succeed(["train", str(&config), "--plan"]);
    for line in ["engine       fast", "parameters", "moments", "gradients", "batch × F", "total"] {
        assert!(plan.contains(line), "expected {line:?} in: {plan}");
    }
    let out = str(&out);
    assert!(!at("out").exists(), "nothing may be started");
    let trained = succeed(["train", str(&config), "--out", out, "--profile"]);
    for part in ["gemm", "selection", "weight gradients", "optimiser", "peak resident memory"] {
        assert!(trained.contains(part), "expected {part:?} in: {trained}");
    }

    fs::write(&config, text.replace("256", "9000000000")).expect("writes");
    fail(["train", str(&config), "--plan"], 2, &["sae.n_features", "fits into", "9000000000"]);
    fail(["train", str(&config), "--out", str(&at("other"))], 2, &["sae.n_features"]);
    fs::write(&config, text + "micro_batch = 65\n").expect("writes");
    fail(["train", str(&config), "--plan"], 2, &["training.micro_batch", "from 1 to", "65"]);
    fail(["train", str(&config)], 2, &["--out"]);
}

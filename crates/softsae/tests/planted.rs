//! Planted data from the command line: plant, inspect, convert, train, eval.

use std::fs;

use sae_config::{Evaluation, read_json};

use crate::{fail, run_toml, str, succeed};

const PLANTED: &str =
    "[planted]\nn_rows = 3000\nd_model = 16\nn_features = 24\nk_min = 1\nk_max = 5\n";

#[test]
fn what_is_planted_is_found_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (planted, store, held_out) = (at("planted.toml"), at("store"), at("held-out"));
    fs::write(&planted, PLANTED).expect("writes");
    succeed(["plant", str(&planted), "--out", str(&store)]);
    fs::write(&planted, format!("{PLANTED}first_row = 3000\n")).expect("writes");
    let printed = succeed(["plant", str(&planted), "--out", str(&held_out)]);
    assert!(printed.contains("3000 rows of 24 features"), "{printed}");
    let inspected = succeed(["inspect", str(&store)]);
    for words in
        ["rows                      3000", "planted", "not finite                0 rows", "█"]
    {
        assert!(inspected.contains(words), "{words} in {inspected}");
    }

    let config = at("run.toml");
    let text = run_toml(&store, "name = \"soft\"\nk = 3\nhard_steps = 100", 1000);
    // A dictionary a little wider than the truth, and a rate for so short a run.
    let text = text.replace("n_features = 256", "n_features = 32").replace("1e-3", "1e-2");
    fs::write(&config, text).expect("writes");
    let (run, out) = (at("run"), at("eval.json"));
    succeed(["train", str(&config), "--out", str(&run), "--threads", "1"]);
    let checkpoint = run.join("checkpoint");
    let eval = ["eval", str(&checkpoint), "--data", str(&held_out), "--out", str(&out)];
    let printed = succeed(eval.into_iter().chain(["--threads", "1"]));
    assert!(printed.contains("k̂ on true k     Spearman"), "{printed}");
    let evaluation: Evaluation = read_json(&out).expect("a result");
    let truth = evaluation.ground_truth.expect("a planted store");
    assert!(truth.recovered_above_0_9 > 0.9, "{truth:?}");
    assert!(truth.spearman_k_hat.expect("k̂ varies") > 0.8, "{truth:?}");
}

#[test]
fn a_store_is_converted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (planted, store, npy) = (at("planted.toml"), at("store"), at("rows.npy"));
    fs::write(&planted, PLANTED).expect("writes");
    succeed(["plant", str(&planted), "--out", str(&store)]);
    let convert = ["convert", str(&store), "--out", str(&npy), "--format", "npy"];
    let printed = succeed(convert.into_iter().chain(["--dtype", "f16"]));
    assert!(printed.contains("3000 rows of f16"), "{printed}");
    assert!(succeed(["inspect", str(&npy)]).contains("f16"));
    let headerless = ["convert", str(&store), "--format", "headerless", "--dtype", "f16"];
    let out = at("rows_3000_16.npy");
    fail(headerless.into_iter().chain(["--out", str(&out)]), 2, &["dtype", "f32", "f16"]);
}

#[test]
fn mistakes_in_a_planted_file_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (planted, out) = (folder.path().join("planted.toml"), folder.path().join("store"));
    let plant = |text: &str, words: &[&str]| {
        fs::write(&planted, text).expect("writes");
        fail(["plant", str(&planted), "--out", str(&out)], 2, &[&["planted.toml"], words].concat());
        assert!(!out.exists(), "nothing may be written");
    };
    plant("[planted]\nk_min = 9\nk_max = 3", &["planted.k_min", "at most k_max 3", "got 9"]);
    plant("[planted]\nkmin = 9", &["kmin"]);
    plant("", &["planted"]);
}

/// What worthless dictionaries get of a truth is not kept for another one of the same rows.
#[test]
fn floors_are_of_the_truth_that_lies_beside_the_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (planted, store, other) = (at("planted.toml"), at("store"), at("other"));
    for (place, seed) in [(&store, 0), (&other, 1)] {
        fs::write(&planted, format!("{PLANTED}seed = {seed}\n")).expect("writes");
        succeed(["plant", str(&planted), "--out", str(place)]);
    }
    let config = at("run.toml");
    fs::write(&config, run_toml(&store, "name = \"topk\"\nk = 3", 20)).expect("writes");
    succeed(["train", str(&config), "--out", str(&at("run"))]);
    let (checkpoint, floors, out) = (at("run/checkpoint"), at("floors"), at("eval.json"));
    let floor = || {
        let places = ["--data", str(&store), "--floors", str(&floors), "--out", str(&out)];
        succeed(["eval", str(&checkpoint), "--suite", "truth"].into_iter().chain(places));
        let evaluation: Evaluation = read_json(&out).expect("an evaluation");
        evaluation.scores["truth.mcc"].floors.clone()
    };
    let own = floor();
    assert_eq!(floor(), own);
    fs::copy(other.join("truth.safetensors"), store.join("truth.safetensors")).expect("copies");
    assert_ne!(floor(), own);
}

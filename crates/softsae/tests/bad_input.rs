//! Each mistake is a message that names it, and the right exit code.

use std::fs;

use crate::{fail, run_toml, smollm2, str};

#[test]
fn usage_errors_exit_with_2() {
    fail(["fly"], 2, &["fly"]);
    fail(["train"], 2, &["RUN.toml"]);
    fail(["inspect", "/nowhere/at all"], 2, &["/nowhere/at all"]);
    let eval = ["eval", "/nowhere/checkpoint", "--data", "/nowhere/store"];
    fail(eval, 2, &["/nowhere/checkpoint"]);
    fail(
        eval.into_iter().chain(["--device", "tpu"]),
        2,
        &["--device", "`cpu`, `cuda` or `cuda:N`", "tpu"],
    );
}

#[test]
fn a_run_file_is_read_strictly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (config, out) = (folder.path().join("run.toml"), folder.path().join("out"));
    let store = folder.path().join("store");
    let train = |architecture: &str, words: &[&str]| {
        fs::write(&config, run_toml(&store, architecture, 10)).expect("writes");
        fail(["train", str(&config), "--out", str(&out)], 2, &[&[str(&config)], words].concat());
        assert!(!out.exists(), "nothing may be started");
    };
    train("name = \"topk\"\nk = 256", &["architecture.k", "256"]);
    train("name = \"topk\"\nk = 8\nkk = 1", &["kk"]);
    train("name = \"topq\"\nk = 8", &["topq", "batch_topk"]);
    train("name = \"soft\"\nk = 8\nhard_steps = 11", &["hard_steps", "11"]);
}

#[test]
fn broken_inputs_name_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (text, out, model) = (at("text.txt"), at("out"), at("model.gguf"));
    fs::write(&text, "some words to read").expect("writes");
    let harvest = |host: &str, hook: &str, words: &[&str]| {
        let args = ["harvest", "--host", host, "--text", str(&text), "--hook", hook];
        fail(args.into_iter().chain(["--out", str(&out)]), 2, words);
        assert!(!out.exists(), "nothing may be started");
    };
    harvest(str(&model), "resid_post.3", &["model.gguf"]);
    let whole = fs::read(smollm2()).expect("the model");
    fs::write(&model, &whole[..whole.len() / 2]).expect("writes");
    harvest(str(&model), "resid_post.3", &["model.gguf"]);
    harvest(str(&smollm2()), "resid_post.30", &["resid_post.30", "29"]);
    harvest(str(&smollm2()), "resid_mid.3", &["resid_mid"]);
    fs::write(&text, [0x66, 0xff, 0xfe]).expect("writes");
    harvest(str(&smollm2()), "resid_post.3", &["text.txt", "UTF-8"]);
}

#[test]
fn a_row_that_is_not_finite_fails_the_run_and_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let mut rows: Vec<f32> = (0..200 * 16).map(|i| (i as f32 * 0.37).sin()).collect();
    rows[77 * 16 + 5] = f32::NAN;
    let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
    let store = at("rows_200_16.npy");
    fs::write(&store, bytes).expect("writes");
    let config = at("run.toml");
    fs::write(&config, run_toml(&store, "name = \"topk\"\nk = 4", 10)).expect("writes");
    let train = ["train", str(&config), "--out", str(&at("out"))].map(str::to_owned);
    fail(train.iter().map(String::as_str), 1, &["rows_200_16.npy", "row 77", "NaN"]);
}

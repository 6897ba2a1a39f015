//! A model is applied where it belongs, or the result says that it is not; runs read from anywhere.

use std::fs;
use std::path::Path;

use sae_config::Evaluation;
use sae_data::{Dtype, RowMeta, StoreSpec, StoreWriter};

use crate::{fail, run_toml, softsae, str, succeed, text};

/// A store that says where its rows come from.
fn store(path: &Path, host: &str, hook: &str, settings: &[(&str, &str)]) {
    let mut spec = StoreSpec::new(8, Dtype::F32);
    spec.provenance.host = host.into();
    spec.provenance.host_hash = (!host.is_empty()).then(|| format!("hash of {host}"));
    spec.provenance.hook_point = hook.into();
    let settings = settings.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    spec.provenance.settings.extend(settings);
    let mut writer = StoreWriter::create(path, spec).expect("a store");
    for row in 0..300u32 {
        let values: Vec<f32> = (0..8).map(|i| ((row * 8 + i) as f32 * 0.7).sin()).collect();
        let meta = RowMeta { token_id: 0, document: 0, position: row };
        writer.append(&values, &[meta]).expect("a row");
    }
    writer.finish().expect("a store");
}

#[test]
fn activations_of_another_place_are_refused_unless_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let policy = [("bos", "always"), ("special_tokens", "left out"), ("context_length", "128")];
    for (name, host, hook, settings) in [
        ("here", "gpt2", "resid_post.15", &policy[..]),
        ("deeper", "gpt2", "resid_post.7", &policy),
        ("other", "pythia", "resid_post.15", &policy),
        ("unknown", "", "", &[]),
        ("otherwise", "gpt2", "resid_post.15", &[("bos", "never"), ("context_length", "64")]),
    ] {
        store(&at(name), host, hook, settings);
    }
    fs::write(at("run.toml"), run_toml(&at("here"), "name = \"topk\"\nk = 4", 10)).expect("writes");
    succeed(["train", str(&at("run.toml")), "--out", str(&at("run"))]);
    let checkpoint = at("run/checkpoint");
    let inspected = succeed(["inspect", str(&checkpoint)]);
    for words in ["[trained_on]", "resid_post.15", "hash of gpt2", "dtype = \"f32\"", "data_hash"] {
        assert!(inspected.contains(words), "{words}: {inspected}");
    }

    let (json, codes) = (at("eval.json"), at("codes"));
    let result = || -> Evaluation { sae_config::read_json(&json).expect("an evaluation") };
    for (data, words) in [("deeper", "hook point: expected resid_post.15"), ("other", "host: ")] {
        let store = at(data);
        let eval = ["eval", str(&checkpoint), "--data", str(&store), "--out", str(&json)];
        fail(eval, 2, &[words, "--elsewhere"]);
        let encode = ["encode", str(&checkpoint), "--data", str(&store), "--out", str(&codes)];
        fail(encode, 2, &[words, "--elsewhere"]);
        let exported = at("exported");
        let format = ["export", str(&checkpoint), "--format", "saelens", "--out", str(&exported)];
        fail(format.into_iter().chain(["--data", str(&store)]), 2, &[words, "--elsewhere"]);
        assert!(!json.exists() && !codes.exists() && !exported.exists());

        let printed = succeed(eval.into_iter().chain(["--elsewhere"]));
        assert!(printed.starts_with("elsewhere"), "{printed}");
        assert!(result().elsewhere && result().differences[0].starts_with(words));
        succeed(encode.into_iter().chain(["--elsewhere"]));
        let said = fs::read_to_string(codes.join("codes.json")).expect("codes");
        assert!(said.contains("\"elsewhere\": true"), "{said}");
        fs::remove_file(&json).expect("removes");
        fs::remove_dir_all(&codes).expect("removes");
    }
    for (data, n_differences) in [("here", 0), ("unknown", 0), ("otherwise", 2)] {
        let store = at(data);
        let eval = ["eval", str(&checkpoint), "--data", str(&store), "--out", str(&json)];
        let output = softsae(eval);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr).matches("warning: ").count(), n_differences);
        assert_eq!((result().elsewhere, result().differences.len()), (false, n_differences));
    }
}

#[test]
fn a_run_file_is_read_from_anywhere_and_so_is_its_resolved_copy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("runs")).expect("a folder");
    store(&at("store"), "gpt2", "resid_post.3", &[]);
    let relative = run_toml(Path::new("../store"), "name = \"topk\"\nk = 4", 10);
    fs::write(at("runs/run.toml"), relative).expect("writes");
    succeed(["train", str(&at("runs/run.toml")), "--out", str(&at("one"))]);
    succeed(["train", str(&at("one/run.toml")), "--out", str(&at("two"))]);
    let weights = |run: &str| fs::read(at(run).join("checkpoint/sae.safetensors")).expect("reads");
    assert!(weights("one") == weights("two"));
}

#[test]
fn a_run_is_made_longer_or_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    store(&at("store"), "gpt2", "resid_post.3", &[]);
    let (config, out) = (at("run.toml"), at("run"));
    let write = |steps: u64, more: &str| {
        let run = run_toml(&at("store"), "name = \"topk\"\nk = 4", steps);
        fs::write(&config, run + more).expect("writes");
    };
    let train =
        |out: &Path| ["train", str(&config), "--out", str(out), "--resume"].map(String::from);
    write(40, "checkpoint_every = 10\n");
    succeed(train(&out).iter().map(String::as_str));
    write(80, "checkpoint_every = 10\n");
    let printed = succeed(train(&out).iter().map(String::as_str));
    assert!(printed.contains("went on from step 30"), "{printed}");
    assert_eq!(crate::metrics(&out).last().expect("a line")["step"], 79);
    let resolved = fs::read_to_string(out.join("run.toml")).expect("reads");
    assert!(resolved.contains("threshold_start_step = 4"), "{resolved}");

    let whole = at("whole");
    write(40, "checkpoint_every = 0\n");
    succeed(train(&whole).iter().map(String::as_str));
    write(80, "");
    let words = ["`training.steps`: expected 40", "got 80", "`training.init`"];
    fail(train(&whole).iter().map(String::as_str), 2, &words);
    write(80, &format!("init = {:?}\n", whole.join("checkpoint")));
    succeed(train(&at("tuned")).iter().map(String::as_str));
}

#[test]
fn a_filter_that_leaves_nothing_is_a_mistake_of_usage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    store(&at("store"), "gpt2", "resid_post.3", &[]);
    let run = run_toml(&at("store"), "name = \"topk\"\nk = 4", 10);
    let run = run.replace("[sae]", "min_position = 1000\n[sae]");
    fs::write(at("run.toml"), run).expect("writes");
    let args = ["train", str(&at("run.toml")), "--out", str(&at("out"))].map(String::from);
    fail(args.iter().map(String::as_str), 2, &["at least one row"]);
}

/// Messages of failing commands, down to their cause.
#[test]
fn no_part_of_a_message_is_told_twice() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("text.txt"), "words").expect("writes");
    fs::write(at("bad.toml"), "data.store = 's'\nsteps =").expect("writes");
    fs::write(at("range.toml"), run_toml(&at("none"), "name = \"topk\"\nk = 0", 10))
        .expect("writes");
    fs::write(at("none.toml"), run_toml(&at("none"), "name = \"topk\"\nk = 4", 10))
        .expect("writes");
    fs::write(at("bytes.npy"), "no array").expect("writes");
    store(&at("store"), "gpt2", "resid_post.3", &[]);
    fs::write(at("run.toml"), run_toml(&at("store"), "name = \"topk\"\nk = 4", 5)).expect("writes");
    succeed(["train", str(&at("run.toml")), "--out", str(&at("run"))]);
    let sae = at("run/checkpoint/sae.safetensors");
    let checkpoint = at("run/checkpoint");
    let whole = fs::read(&sae).expect("reads");
    fs::write(&sae, &whole[..whole.len() / 2]).expect("writes");
    let paths: Vec<String> =
        ["none", "none.toml", "bad.toml", "range.toml", "bytes.npy", "text.txt"]
            .map(|name| str(&at(name)).to_owned())
            .into();
    let [none, none_toml, bad, range, bytes, prose] = &paths[..] else { unreachable!() };
    let (out, store, good) = (at("out"), at("store"), at("run.toml"));
    let harvest = ["--hook", "resid_post.1", "--out", str(&out)];
    let commands = [
        vec!["inspect", none],
        vec!["inspect", bytes],
        vec!["inspect", str(&checkpoint)],
        vec!["train", none, "--out", str(&out)],
        vec!["train", none_toml, "--out", str(&out)],
        vec!["train", bad, "--out", str(&out)],
        vec!["train", range, "--out", str(&out)],
        vec!["train", str(&good), "--out", prose],
        vec!["eval", none, "--data", str(&store)],
        vec!["eval", str(&checkpoint), "--data", str(&store)],
        vec!["import", none, "--format", "saelens", "--out", str(&out)],
        vec!["plant", none, "--out", str(&out)],
        [&["harvest", "--host", none, "--text", prose][..], &harvest].concat(),
        [&["harvest", "--host", none, "--text", none][..], &harvest].concat(),
    ]
    .map(|args| args.into_iter().map(str::to_owned).collect::<Vec<_>>());
    for args in commands {
        let output = softsae(args.iter().map(String::as_str));
        let message = text(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        let message = message.trim().trim_start_matches("error: ");
        let parts: Vec<&str> = message.split(": ").collect();
        for part in parts.iter().filter(|part| part.len() > 3) {
            let n = parts.iter().filter(|other| *other == part).count();
            assert_eq!(n, 1, "{part:?} in {args:?}: {message}");
        }
    }
}

/// A file takes the place of what was there, so that a pipe or a device would be gone.
#[cfg(unix)]
#[test]
fn pipes_are_no_place_for_an_output() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (rows, pipe) = (folder.path().join("rows"), folder.path().join("pipe"));
    store(&rows, "host", "resid_post.1", &[]);
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo starts");
    assert!(made.success());
    fail(["convert", str(&rows), "--out", str(&pipe), "--format", "npy"], 2, &["--out", "pipe"]);
    let kind = fs::metadata(&pipe).expect("the pipe").file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
}

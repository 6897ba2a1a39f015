//! Several runs on one stream of batches, from a store and from a host: each ends as alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::live::{folder, live, outcome, run_toml};
use crate::{fail, plant, softsae_program, str, succeed};

/// Run files over `data` that differ in what does not decide the stream.
fn runs(folder: &Path, data: &str) -> Vec<PathBuf> {
    let variants = [
        ("a", "k = 4", ""),
        ("b", "k = 8", "micro_batch = 20"),
        ("c", "k = 4", "engine = 'reference'"),
    ];
    let write = |(name, k, more): (&str, &str, &str)| {
        let file = folder.join(format!("{name}.toml"));
        let steps = if name == "b" { "steps = 31" } else { "steps = 40" };
        let text = run_toml(data, more).replace("k = 4", k).replace("steps = 40", steps);
        fs::write(&file, text).expect("writes");
        file
    };
    variants.map(write).into()
}

/// The arguments that train run files together into folders called as they are.
fn together(files: &[PathBuf], into: &str) -> Vec<String> {
    let mut args = vec!["train".to_owned()];
    args.extend(files.iter().map(|file| str(file).to_owned()));
    for file in files {
        let out = format!("{}-{into}", str(&file.with_extension("")));
        args.extend(["--out".to_owned(), out]);
    }
    args.extend(["--resume", "--threads", "1"].map(str::to_owned));
    args
}

/// Fails unless each run is what it is alone.
fn as_alone(folder: &Path, files: &[PathBuf], into: &str) {
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy();
        let alone = folder.join(format!("{name}-alone"));
        if !alone.exists() {
            succeed(["train", str(file), "--out", str(&alone), "--threads", "1"]);
        }
        let (one, other) = (format!("{name}-{into}"), format!("{name}-alone"));
        assert!(outcome(folder, &one) == outcome(folder, &other), "{one}: weights or log differ");
    }
}

#[test]
fn runs_on_one_store_or_host_end_as_alone_however_they_are_killed() {
    let folder = folder();
    let at = folder.path();
    let store = at.join("store");
    plant(&store, 500, 32);
    let stored = (format!("store = {store:?}"), "stored");
    for (data, kind) in [stored, (live(at, "window_bytes = 60000"), "live")] {
        let runs_at = at.join(kind);
        fs::create_dir(&runs_at).expect("a folder");
        let files = runs(&runs_at, &data);
        let args = |into| together(&files, into);
        let started = Instant::now();
        let said = succeed(args("whole").iter().map(String::as_str));
        let took = started.elapsed();
        assert_eq!(said.matches("40 steps in").count(), 2, "{said}");
        assert_eq!(said.matches("31 steps in").count(), 1, "{said}");
        as_alone(&runs_at, &files, "whole");
        for part in [0.3, 0.5, 0.7, 0.8, 0.9] {
            let mut command = Command::new(softsae_program());
            command.args(args("killed")).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("softsae starts");
            std::thread::sleep(took.mul_f64(part));
            child.kill().expect("killed, or ended before");
            child.wait().expect("ended");
        }
        succeed(args("killed").iter().map(String::as_str));
        as_alone(&runs_at, &files, "killed");
        // Nothing is left to do, of one of them alone and of all.
        let said = succeed(args("killed").iter().map(String::as_str));
        assert_eq!(said.matches("in 0.0 s").count(), 3, "{said}");
    }
}

#[test]
fn what_cannot_train_together_is_refused_before_any_run_begins() {
    let folder = folder();
    let at = folder.path();
    let store = at.join("store");
    plant(&store, 100, 16);
    let files = runs(at, &format!("store = {store:?}"));
    let [a, b, c] = [&files[0], &files[1], &files[2]].map(|file| str(file));
    let (x, y) = (at.join("x"), at.join("y"));
    let two = ["train", a, b, "--out", str(&x)];
    fail(two, 2, &["--out: expected one for each of 2 runs, got 1"]);
    let twice = ["train", a, b, "--out", str(&x), "--out", str(&x)];
    fail(twice, 2, &["--out: expected a folder for each run", "twice"]);
    let text = fs::read_to_string(c).expect("reads").replace("batch_size = 64", "batch_size = 32");
    fs::write(c, text).expect("writes");
    let other = ["train", a, c, "--out", str(&x), "--out", str(&y)];
    fail(other, 2, &["`training.batch_size`: expected 64, as in the first", "got 32"]);
    assert!(!x.join("run.toml").exists() && !y.join("run.toml").exists());
    succeed(["train", b, "--out", str(&y)]);
    let begun = ["train", a, b, "--out", str(&x), "--out", str(&y)];
    fail(begun, 2, &[str(&y), "expected no training here unless it is resumed"]);
    assert!(!x.join("run.toml").exists());
}

/// A line of a plan, in bytes of a million.
fn planned(args: &[&str], name: &str) -> u64 {
    let said = succeed(args.iter().copied().chain(["--plan"]));
    let line = said.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{said}"));
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
fn a_plan_counts_the_window_and_the_host_once() {
    let folder = folder();
    let at = folder.path();
    let data = live(at, "window_bytes = 300000000");
    let files = runs(at, &data);
    let wide = |file: &Path| {
        let text = fs::read_to_string(file).expect("reads");
        fs::write(file, text.replace("n_features = 64", "n_features = 60000")).expect("writes");
    };
    files.iter().for_each(|file| wide(file));
    let [a, b] = [&files[0], &files[1]].map(|file| str(file));
    for (name, factor) in [("parameters", 2), ("moments", 2), ("window", 1)] {
        let (one, both) = (planned(&["train", a], name), planned(&["train", a, b], name));
        assert!(one > 0 && both.abs_diff(factor * one) <= 1, "{name}: {one} and {both}");
    }
    let total = |args: &[&str]| planned(args, "total");
    let (one, other, both) = (total(&["train", a]), total(&["train", b]), total(&["train", a, b]));
    let window = planned(&["train", a], "window");
    assert!(both.abs_diff(one + other - window) <= 2, "{one} + {other} - {window}: {both}");
}

/// The weights of the real host, in f32.
#[test]
fn a_plan_counts_the_weights_of_the_host() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    let (host, prose, config) = (crate::smollm2(), at.join("prose.txt"), at.join("run.toml"));
    fs::write(&prose, "It was the best of times.").expect("writes");
    let data = format!(
        "host = {host:?}\nhook = 'resid_post.1'\nwindow_bytes = 10000000\n\
         [data.corpus]\npath = {prose:?}\n"
    );
    fs::write(&config, run_toml(&data, "")).expect("writes");
    let weights = planned(&["train", str(&config)], "host");
    // 134,515,008 of them.
    assert_eq!(weights, 538);
    assert!(planned(&["train", str(&config)], "total") > weights + 10);
}

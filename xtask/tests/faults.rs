//! What goes wrong in runs and in a sweep's folder is named, and costs no more than it must.

use std::fs::{self, File};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::bench::{Bench, json, log, training_process, until};

/// Steps that take some seconds.
const LONG: u64 = 30_000;

fn failure(run: &Value) -> &str {
    run["failure"].as_str().expect("a failure")
}

/// Kills the training of the only run, once it has saved a state.
fn kill_training(bench: &Bench) {
    until("a state of the run", || {
        bench.runs().iter().any(|run| {
            let states = fs::read_dir(run.join("training")).into_iter().flatten();
            states.flatten().any(|state| state.path().extension().is_none())
        })
    });
    let mut process = None;
    until("a training process", || {
        process = training_process(&bench.runs()[0]);
        process.is_some()
    });
    kill_process(process.expect("it was found"), Signal::KILL).expect("killed");
}

#[test]
fn a_killed_training_is_named_or_tried_again() {
    let bench = Bench::new();
    let file = bench.write("long.toml", LONG, "seed = [0]");
    let sweep = bench.start(&file, &["--retries", "0"]);
    kill_training(&bench);
    assert_eq!(sweep.wait().code(), Some(1));
    let run = &bench.results()[0];
    assert_eq!(failure(run), "training: killed by signal 9 (out of memory?)");
    assert!(bench.said().contains("failed: training: killed by signal 9"), "{}", bench.said());
    assert!(!bench.at("out/programs").exists(), "no copy is left");

    let sweep = bench.start(&file, &["--retries", "1"]);
    kill_training(&bench);
    assert_eq!(sweep.wait().code(), Some(0), "{}", bench.said());
    let run = &bench.results()[0];
    let folder = &bench.runs()[0];
    assert!(log(folder).contains("went on from step"), "{}", log(folder));
    assert_eq!(run["train_seconds"], json(&folder.join("timing.json"))["train_seconds"]);
    let provenance = &run["provenance"];
    for key in ["version", "libtorch", "device", "host", "started", "ended"] {
        assert!(provenance[key].as_str().is_some_and(|text| !text.is_empty()), "{provenance}");
    }
    let started = json(&folder.join("started.json"))["started"].clone();
    assert_eq!(provenance["started"], started);
    assert!(provenance["started"].as_str() < provenance["ended"].as_str(), "{provenance}");
}

#[test]
fn limits_are_named_and_a_damaged_state_says_what_to_delete() {
    let bench = Bench::new();
    let file = bench.write("long.toml", LONG, "seed = [0]");
    let words = ["failed: training: killed at", "over the memory limit of 20 MB"];
    bench.ends(&file, &["--memory-limit", "20MB"], 1, &words);
    assert_eq!(bench.count("--resume"), 1, "a limit is no accident");

    let words = ["training: stopped at the time limit of 1 s; another start goes on from there"];
    bench.ends(&file, &["--time-limit", "1s"], 1, &words);
    let run = &bench.runs()[0];
    for state in fs::read_dir(run.join("training")).expect("a state") {
        for file in fs::read_dir(state.expect("an entry").path()).expect("reads") {
            let file = file.expect("an entry").path();
            let length = fs::metadata(&file).expect("there").len();
            let cut = File::options().write(true).open(&file).and_then(|f| f.set_len(length / 2));
            cut.expect("cut");
        }
    }
    let remedy = format!("it went on from {}: delete that", run.join("training").display());
    bench.ends(&file, &[], 1, &["failed: training: exit code", &remedy]);
    fs::remove_dir_all(run.join("training")).expect("deleted");
    bench.ends(&file, &[], 0, &[]);
}

#[test]
fn a_folder_belongs_to_one_sweep() {
    let bench = Bench::new();
    let file = bench.write("one.toml", 20, "seed = [0]");
    bench.ends(&bench.at("none.toml"), &[], 2, &["none.toml: expected a sweep file"]);
    bench.ends(&file, &["--detach"], 2, &["--detach: expected --launcher slurm"]);
    bench.ends(&file, &[], 0, &["1 of 1 runs to do"]);

    let other = bench.write("two.toml", 20, "seed = [0]");
    bench.ends(&other, &[], 2, &["holds sweep `one`, not `two`", "--out"]);
    bench.write("one.toml", 30, "seed = [0]");
    bench.ends(&file, &[], 2, &["holds 1 runs of another sweep, or of this one before", "--out"]);
    bench.write("one.toml", 20, "seed = [0, 1]");
    bench.ends(&file, &[], 0, &["1 of 2 runs to do"]);
    // A name without a folder is a file of the folder that one is in.
    bench.ends("one.toml".as_ref(), &[], 0, &["0 of 2 runs to do"]);

    // Nothing is written into a host, a store or a checkpoint.
    let checkpoint = bench.runs()[0].join("checkpoint");
    let names = || fs::read_dir(&checkpoint).expect("lists").count();
    let (before, place) = (names(), checkpoint.to_str().expect("UTF-8").to_owned());
    let (code, said) = bench.asks(&["sweep", "one.toml", "--out", &place]);
    assert!(code == Some(2) && said.contains("no host, store or checkpoint"), "{said}");
    assert_eq!(names(), before);

    // What is no result of the run is kept, and the run is done.
    let runs = bench.runs();
    let (first, second) = (runs[0].join("result.json"), runs[1].join("result.json"));
    fs::copy(&first, &second).expect("copied");
    fs::write(&first, "not JSON").expect("writes");
    bench.ends(&file, &[], 0, &["2 of 2 runs to do", "the run is done again"]);
    let aside = fs::read_to_string(runs[0].join("result.json.aside-1")).expect("kept");
    assert_eq!(aside, "not JSON");
    assert_eq!(json(&second)["status"], "done");
    bench.ends(&file, &[], 0, &["0 of 2 runs to do"]);
}

#[test]
fn a_run_that_cannot_fit_is_refused_by_name() {
    let bench = Bench::new();
    let axes = "n_features = [32, 4_000_000_000]";
    let file = bench.write("large.toml", 20, axes);
    let words = ["memory: run", "(n_features = 4000000000)", "on cpu, where", "--filter"];
    bench.ends(&file, &[], 2, &words);
    assert_eq!(bench.count("--resume"), 0, "nothing was started");
    assert!(!bench.at("out").exists(), "nothing is left of what was refused");
    fs::create_dir(bench.at("out")).expect("made");
    bench.ends(&file, &[], 2, &words);
    assert_eq!(fs::read_dir(bench.at("out")).expect("reads").count(), 0, "it was there before");
    bench.ends(&file, &["--filter", "n_features=32"], 0, &["1 of 1 runs to do"]);
    bench.ends(&file, &[], 2, &words);
    assert!(!bench.at("out/programs").exists(), "no copy of a program is left");
    assert_eq!(bench.runs().len(), 1, "what was done stays");
}

#[test]
fn a_device_that_is_not_here_is_refused() {
    let mut bench = Bench::new();
    bench.variables.push(("CUDA_VISIBLE_DEVICES", String::new()));
    let file = bench.write("one.toml", 20, "seed = [0]");
    let words = ["--devices: expected a device of this machine, got `cuda:0`"];
    bench.ends(&file, &["--devices", "cpu,cuda:0", "--dry-run"], 2, &words);
    bench.ends(&file, &["--devices", "cpu", "--dry-run"], 0, &[]);
    let text = fs::read_to_string(&file).expect("reads");
    fs::write(&file, text.replace("batch_size", "device = 'cuda'\nbatch_size")).expect("writes");
    let words = ["training.device: expected a device of this machine, got `cuda`"];
    bench.ends(&file, &["--dry-run"], 2, &words);
    // It may be one of a cluster's nodes.
    bench.ends(&file, &["--dry-run", "--launcher", "slurm"], 0, &["#!/bin/sh"]);
}

#[test]
fn ctrl_c_saves_the_runs() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let bench = Bench::new();
        // Only the signal makes it write a state.
        let file = bench.write("long.toml", 100 * LONG, "seed = [0]\ncheckpoint_every = [0]");
        let sweep = bench.start(&file, &[]);
        until("steps", || bench.runs().iter().any(|run| run.join("metrics.jsonl").exists()));
        sweep.signal(signal);
        assert_eq!(sweep.wait().code(), Some(130), "{signal:?}: {}", bench.said());
        let run = &bench.runs()[0];
        assert!(run.join("training").is_dir(), "{signal:?}: {}", log(run));
        assert!(!run.join("result.json").exists(), "an interruption is no result");
        assert!(training_process(run).is_none(), "no process is left");
    }
}

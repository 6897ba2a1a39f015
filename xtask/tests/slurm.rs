//! Sweeps on a real SLURM: what is queued outlives the sweep, and no run is done twice.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bench::{Bench, json, log, until};
use crate::cluster::Cluster;

/// The variable with the number of runs of the large test.
const LARGE: &str = "SOFTSAE_SLURM_RUNS";

/// Steps that take some seconds.
const LONG: u64 = 30_000;

/// The records of submissions.
fn submissions(bench: &Bench) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.at("out/slurm")).into_iter().flatten();
    let folders = entries.map(|entry| entry.expect("an entry").path().join("submission.json"));
    folders.filter(|record| record.exists()).collect()
}

#[test]
fn a_killed_sweep_attaches_to_what_is_queued() {
    let Some(cluster) = Cluster::start(1001) else { return };
    let bench = cluster.bench();
    let file = bench.write("long.toml", LONG, "seed = [0, 1, 2, 3]");
    let sweep = bench.start(&file, &["--launcher", "slurm"]);
    until("running tasks", || !cluster.tasks("RUNNING").is_empty());
    sweep.kill();
    bench.ends(&file, &["--launcher", "slurm", "--detach"], 0, &["array jobs 1 go on"]);

    // Killed before the id of the job was written down: it is found by its name.
    let [record] = &submissions(&bench)[..] else { panic!("one submission") };
    let mut submission = json(record);
    submission["array"] = serde_json::Value::Null;
    fs::write(record, submission.to_string()).expect("writes");
    let words = ["4 runs are queued or running already, as array jobs 1"];
    let n_done = bench.runs().iter().filter(|run| run.join("result.json").exists()).count();
    let words = if n_done == 0 { &words[..] } else { &[] };
    bench.ends(&file, &["--launcher", "slurm"], 0, words);
    assert_eq!(cluster.n_arrays(), 1, "{}", bench.said());
    assert_eq!(bench.count("--resume"), 4, "each run was trained once");
    assert!(submissions(&bench).is_empty(), "nothing is left of the submission");
    assert!(!bench.at("out/programs").exists(), "no copy of a program is left");
    bench.ends(&file, &["--launcher", "slurm"], 0, &["0 of 4 runs to do"]);

    // Killed after the last run had ended, before the record was dropped.
    fs::create_dir_all(record.parent().expect("a folder")).expect("made");
    fs::write(record, submission.to_string()).expect("writes");
    bench.ends(&file, &[], 2, &["array jobs of this sweep may be queued"]);
    bench.ends(&file, &["--launcher", "slurm"], 0, &["0 of 4 runs to do"]);
    bench.ends(&file, &[], 0, &["0 of 4 runs to do"]);
}

#[test]
fn a_cancelled_task_fails_and_a_requeued_one_goes_on() {
    let Some(cluster) = Cluster::start(1001) else { return };
    let bench = cluster.bench();
    let file = bench.write("long.toml", 3 * LONG, "seed = [0, 1]\nlog_every = [10]");
    bench.ends(&file, &["--launcher", "slurm", "--detach"], 0, &["submitted 2 runs"]);
    until("training", || {
        let started = bench.runs().into_iter().filter(|run| run.join("metrics.jsonl").exists());
        started.count() == 2
    });
    let (code, said) = bench.asks(&["sweep", "status", "out"]);
    assert!(code == Some(0) && said.matches("running, slurm: running").count() == 2, "{said}");
    let (code, said) = bench.asks(&["sweep", "rm", "out", "1", "--yes"]);
    assert!(code == Some(1) && said.contains("SLURM has it (running)"), "{said}");
    let sweep = bench.start(&file, &["--launcher", "slurm"]);
    sweep.until_it_says("2 runs are queued or running already");
    cluster.ask("scancel", &["1_1"]);
    cluster.ask("scontrol", &["requeue", "1_0"]);
    assert_eq!(sweep.wait().code(), Some(1), "{}", bench.said());
    let results = bench.results();
    let of_seed = |seed: u64| {
        let is_it = |run: &&serde_json::Value| run["config"]["training"]["seed"] == seed;
        results.iter().find(is_it).expect("a result").clone()
    };
    assert_eq!(of_seed(0)["status"], "done");
    let requeued = bench.at("out/runs").join(of_seed(0)["run_id"].as_str().expect("an id"));
    assert!(log(&requeued).contains("went on from step"), "{}", log(&requeued));
    let failure = of_seed(1)["failure"].as_str().expect("a failure").to_owned();
    assert!(failure.starts_with("slurm task 1_1: cancelled"), "{failure}");

    // The cancelled run is done by the next start, from what it had saved.
    bench.ends(&file, &["--launcher", "slurm"], 0, &["1 of 2 runs to do", "submitted 1 runs"]);
    assert_eq!(cluster.n_arrays(), 2);
    assert_eq!(bench.results().iter().filter(|run| run["status"] == "done").count(), 2);
}

#[test]
fn a_controller_that_is_away_ends_no_sweep() {
    let Some(mut cluster) = Cluster::start(1001) else { return };
    let bench = cluster.bench();
    let file = bench.write("long.toml", LONG, "seed = [0, 1, 2, 3]");
    let sweep = bench.start(&file, &["--launcher", "slurm"]);
    until("running tasks", || !cluster.tasks("RUNNING").is_empty());
    cluster.stop_controller();
    std::thread::sleep(Duration::from_secs(20));
    cluster.start_controller();
    assert_eq!(sweep.wait().code(), Some(0), "{}", bench.said());
    assert!(bench.said().contains("SLURM answers again"), "{}", bench.said());
    assert_eq!((cluster.n_arrays(), bench.count("--resume")), (1, 4));
}

#[test]
fn a_closed_terminal_detaches_and_ctrl_c_cancels() {
    let Some(cluster) = Cluster::start(1001) else { return };
    let bench = cluster.bench();
    // Only the signal makes runs write a state.
    let axes = "seed = [0, 1, 2]\ncheckpoint_every = [0]";
    let file = bench.write("long.toml", 100 * LONG, axes);
    let sweep = bench.start(&file, &["--launcher", "slurm"]);
    until("running tasks", || !cluster.tasks("RUNNING").is_empty());
    sweep.signal(Signal::HUP);
    assert_eq!(sweep.wait().code(), Some(0), "{}", bench.said());
    assert_eq!(cluster.tasks("RUNNING,PENDING").len(), 3, "the array goes on");

    bench.ends(&file, &[], 2, &["out/slurm: array jobs of this sweep may be queued"]);
    let sweep = bench.start(&file, &["--launcher", "slurm"]);
    sweep.until_it_says("3 runs are queued or running already, as array jobs 1");
    until("training", || bench.runs().iter().any(|run| run.join("metrics.jsonl").exists()));
    sweep.signal(Signal::INT);
    assert_eq!(sweep.wait().code(), Some(130), "{}", bench.said());
    assert!(bench.said().contains("cancelling array jobs 1"), "{}", bench.said());
    until("an empty queue", || cluster.tasks("RUNNING,PENDING,COMPLETING").is_empty());
    let trained = bench.runs().into_iter().filter(|run| run.join("metrics.jsonl").exists());
    let saved = trained.filter(|run| run.join("training").is_dir());
    assert!(saved.count() > 0, "what ran has saved its work");

    // The next start submits anew.
    let sweep = bench.start(&file, &["--launcher", "slurm"]);
    sweep.until_it_says("submitted 3 runs as array job 4");
    sweep.signal(Signal::INT);
    assert_eq!(sweep.wait().code(), Some(130), "{}", bench.said());
}

/// Runs of the sweep that does not fit into one array job: 1,200 with `cargo xtask test --slurm`.
fn n_runs() -> usize {
    let n = std::env::var(LARGE).ok();
    n.map_or(12, |n| n.parse().expect("SOFTSAE_SLURM_RUNS: a number"))
}

/// Whether tests may take minutes.
pub(crate) fn is_large() -> bool {
    std::env::var_os(LARGE).is_some()
}

#[test]
fn more_runs_than_an_array_takes_are_several_arrays() {
    let (n_runs, size) = match n_runs() {
        few if few < 100 => (few, 5),
        many => (many, 100),
    };
    let Some(cluster) = Cluster::start(size) else { return };
    let bench = cluster.bench();
    let seeds: Vec<_> = (0..n_runs).map(|seed| seed.to_string()).collect();
    let axes = format!("seed = [{}]", seeds.join(", "));
    let file = bench.write_for_slurm("many.toml", 10, &axes, "cpus = 1");
    let start = Instant::now();
    bench.ends(&file, &["--launcher", "slurm", "--jobs", "2"], 0, &["as array job"]);
    assert_eq!(bench.said().matches("as array job").count(), n_runs.div_ceil(size));
    let done = bench.results().iter().filter(|run| run["status"] == "done").count();
    assert_eq!((done, bench.count("--resume")), (n_runs, n_runs));
    assert_eq!(bench.count("softsae --threads 1 train"), n_runs, "a thread a processor");
    println!("{n_runs} runs in array jobs of {size}: {:.0} s", start.elapsed().as_secs_f64());
}

//! Ends that a real SLURM gives to tasks: what is told of each, and what goes on.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::bench::{Bench, log, until};
use crate::cluster::Cluster;
use crate::slurm::is_large;

/// Steps that take some seconds.
const LONG: u64 = 30_000;

const SLURM: &[&str] = &["--launcher", "slurm"];

/// Waits until all runs are trained; gives their folders.
fn until_training(bench: &Bench, n_runs: usize) {
    until("training", || {
        let begun = |run: &PathBuf| run.join("training").is_dir();
        bench.runs().iter().filter(|run| begun(run)).count() == n_runs
    });
}

/// The result of the run with a seed.
fn of_seed(bench: &Bench, seed: u64) -> Value {
    let is_it = |run: &Value| run["config"]["training"]["seed"] == seed;
    bench.results().into_iter().find(is_it).expect("a result")
}

/// The log of the run with a seed.
fn log_of_seed(bench: &Bench, seed: u64) -> String {
    let run = of_seed(bench, seed);
    log(&bench.at("out/runs").join(run["run_id"].as_str().expect("an id")))
}

/// What the run with a seed failed by.
fn failure(bench: &Bench, seed: u64) -> String {
    of_seed(bench, seed)["failure"].as_str().expect("a failure").to_owned()
}

#[test]
fn a_task_over_its_memory_is_named_and_done_with_more() {
    let Some(cluster) = Cluster::start(1001) else { return };
    let bench = cluster.bench();
    let write = |slurm: &str| bench.write_for_slurm("long.toml", LONG, "seed = [0]", slurm);
    let words = ["FAILED: slurm task 1_0: out of memory", "1 of 1 runs failed"];
    bench.ends(&write("mem = '40M'"), SLURM, 1, &words);
    assert!(failure(&bench, 0).starts_with("slurm task 1_0: out of memory"));
    let (code, said) = bench.asks(&["sweep", "status", "out"]);
    let words = ["1 runs: 1 failed", "failed: slurm task 1_0: out of memory"];
    assert!(code == Some(0) && words.iter().all(|words| said.contains(words)), "{said}");
    bench.ends(&write("mem = '1500M'"), SLURM, 0, &["submitted 1 runs as array job 2"]);
}

#[test]
fn a_preempted_task_goes_on_or_is_named() {
    let Some(cluster) = Cluster::start(1001) else { return };
    let bench = cluster.bench();
    let urgent = ["--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"];
    let preempt = |partition: &str, seed: u64| {
        let axes = format!("seed = [{seed}]");
        let slurm = format!("partition = '{partition}'");
        let file = bench.write_for_slurm("long.toml", 2 * LONG, &axes, &slurm);
        let sweep = bench.start(&file, SLURM);
        until_training(&bench, 1);
        cluster.ask("sbatch", &urgent);
        sweep.wait().code()
    };
    assert_eq!(preempt("debug", 0), Some(0), "{}", bench.said());
    assert!(log_of_seed(&bench, 0).contains("went on from step"), "{}", log_of_seed(&bench, 0));
    assert_eq!(bench.count("--resume"), 2);

    std::fs::rename(bench.at("out"), bench.at("before")).expect("renamed");
    assert_eq!(preempt("spare", 1), Some(1), "{}", bench.said());
    assert!(failure(&bench, 1).contains(": preempted"), "{}", failure(&bench, 1));
}

#[test]
fn tasks_of_a_node_that_fails_go_on_elsewhere_or_are_named() {
    let Some(cluster) = Cluster::start(1001) else { return };
    let bench = cluster.bench();
    let file = bench.write("long.toml", 2 * LONG, "seed = [0, 1]");
    let sweep = bench.start(&file, SLURM);
    until_training(&bench, 2);
    cluster.ask("scontrol", &["update", "JobId=1_1", "Requeue=0"]);
    let node = format!("NodeName={}", cluster.node());
    cluster.ask("scontrol", &["update", &node, "State=DOWN", "Reason=test"]);
    sweep.until_it_says("slurm task 1_1: node fail");
    // It comes back by itself, as `ReturnToService` asks for.
    assert_eq!(sweep.wait().code(), Some(1), "{}", bench.said());
    assert_eq!(of_seed(&bench, 0)["status"], "done");
    assert!(log_of_seed(&bench, 0).contains("went on from step"), "{}", log_of_seed(&bench, 0));
    assert!(failure(&bench, 1).starts_with("slurm task 1_1: node fail"), "{}", bench.said());
}

/// SLURM counts time in minutes, so that this takes more than one.
#[test]
fn a_task_over_its_time_is_named_and_goes_on_at_the_next_start() {
    if !is_large() {
        println!("skipped: takes two minutes; `cargo xtask test --slurm` does it");
        return;
    }
    let Some(cluster) = Cluster::start(1001) else { return };
    let bench = cluster.bench();
    // Only the signal at the end of its time makes the run write a state.
    let write = |time: &str| {
        let axes = "seed = [0]\ncheckpoint_every = [0]";
        bench.write_for_slurm("long.toml", 1000 * LONG, axes, &format!("time = '{time}'"))
    };
    bench.ends(&write("1"), SLURM, 1, &["FAILED: slurm task 1_0: timeout"]);
    let run = &bench.runs()[0];
    let steps = |text: &str, before: &str| -> Option<u64> {
        text.split(before).nth(1)?.split([' ', '/']).next()?.parse().ok()
    };
    let taken = steps(&log(run), "interrupted after ").expect("steps");

    let sweep = bench.start(&write("60"), SLURM);
    let goes_on_at = || steps(log(run).split("--resume").nth(2)?, "train: ");
    until("progress", || goes_on_at().is_some());
    assert!(goes_on_at() >= Some(taken), "{taken} steps were taken: {}", log(run));
    sweep.signal(Signal::INT);
    assert_eq!(sweep.wait().code(), Some(130), "{}", bench.said());
}

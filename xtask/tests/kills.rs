//! `kill -9` of a sweep at random moments: in the end it is as if nothing had happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::bench::{Bench, json, log};
use crate::npy::{self, uniform};

/// Kills of the sweep.
const N_KILLS: usize = 5;

/// A sweep of 24 runs over stores of its own, which nothing has read before.
fn bench() -> (Bench, PathBuf) {
    let bench = Bench::new();
    npy::write(&bench.at("train.npy"), 4000, 16, 1);
    npy::write(&bench.at("held-out.npy"), 500, 16, 2);
    let text = "[stores]\ntrain = 'train.npy'\nheld_out = 'held-out.npy'\n\
                [axes]\narchitecture = ['topk', 'batch_topk', 'soft']\nk = [2, 4]\n\
                seed = [0, 1, 2, 3]\n\
                [base]\nsae.n_features = 64\n[base.training]\nsteps = 300\nbatch_size = 64\n\
                lr = 1e-3\ncheckpoint_every = 20\nlog_every = 10\n";
    let file = bench.at("sweep.toml");
    fs::write(&file, text).expect("writes");
    (bench, file)
}

/// What was measured, and each logged step, by run; without what the clock says.
fn outcome(bench: &Bench) -> Vec<(Value, Vec<Value>)> {
    let of = |run: &Value| {
        let id = run["run_id"].as_str().expect("an id");
        let text = fs::read_to_string(bench.at("out/runs").join(id).join("metrics.jsonl"));
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).expect("a line of JSON");
            line.as_object_mut().and_then(|line| line.remove("rows_per_second")).expect("a rate");
            line
        };
        (run["evaluation"].clone(), text.expect("metrics").lines().map(line).collect())
    };
    bench.results().iter().map(of).collect()
}

/// The logs of the runs that are done.
fn finished(bench: &Bench) -> BTreeMap<PathBuf, String> {
    let runs = bench.runs().into_iter().filter(|run| {
        let file = run.join("result.json");
        file.exists() && json(&file)["status"] == "done"
    });
    runs.map(|run| (run.clone(), log(&run))).collect()
}

#[test]
fn a_sweep_that_is_killed_ends_as_if_undisturbed() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64;
    println!("seed of the kills: {seed}");
    let (killed, file) = bench();
    let mut random = seed;
    let mut done = BTreeMap::new();
    for _ in 0..N_KILLS {
        let sweep = killed.start(&file, &["--jobs", "2"]);
        std::thread::sleep(Duration::from_millis(300 + (3000.0 * uniform(&mut random)) as u64));
        sweep.kill();
        done.extend(finished(&killed));
    }
    killed.ends(&file, &["--jobs", "2"], 0, &[]);
    for (run, log_then) in &done {
        assert!(&log(run) == log_then, "{run:?} was begun again after it had ended");
    }
    let before = finished(&killed);
    assert_eq!(before.len(), 24);
    killed.ends(&file, &["--jobs", "2"], 0, &["0 of 24 runs to do"]);
    assert!(finished(&killed) == before, "a finished sweep does nothing");

    let (undisturbed, file) = bench();
    undisturbed.ends(&file, &["--jobs", "2"], 0, &["24 of 24 runs to do"]);
    assert_eq!(undisturbed.count("--resume"), 24);
    let (got, expected) = (outcome(&killed), outcome(&undisturbed));
    for (n, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert_eq!(got, expected, "run {n}");
    }
    println!("{} of 24 runs had ended before the last start", done.len());
}

//! Runs that read one stream train in one process, and come out as they do one by one.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::bench::Bench;
use crate::npy::uniform;

/// Six runs of each of two streams, of two lengths.
const AXES: &str = "architecture = ['topk', 'batch_topk', 'soft']\nk = [2, 4]\nseed = [0, 1]\n";

/// Status, what was measured, and each logged step without what the clock says, by run.
fn outcome(bench: &Bench) -> BTreeMap<String, (Value, Value, Vec<Value>)> {
    let of = |run: &Value| {
        let id = run["run_id"].as_str().expect("an id").to_owned();
        let text = fs::read_to_string(bench.at("out/runs").join(&id).join("metrics.jsonl"));
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).expect("a line of JSON");
            line.as_object_mut().and_then(|line| line.remove("rows_per_second")).expect("a rate");
            line
        };
        let lines = text.expect("metrics").lines().map(line).collect();
        (id, (run["status"].clone(), run["evaluation"].clone(), lines))
    };
    bench.results().iter().map(of).collect()
}

/// Logs of processes that trained several runs.
fn shared_logs(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.at("out/shared")).into_iter().flatten();
    entries
        .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("reads"))
        .collect()
}

/// The sweep, with or without a process for each stream.
fn bench(is_shared: bool, more: &str) -> (Bench, PathBuf) {
    let bench = Bench::new();
    let file = bench.write("sweep.toml", 160, &format!("{AXES}{more}"));
    let text = fs::read_to_string(&file).expect("reads");
    let text = text.replace("checkpoint_every = 500", "checkpoint_every = 10\nlog_every = 7");
    fs::write(&file, format!("share = {is_shared}\n{text}")).expect("writes");
    (bench, file)
}

#[test]
fn a_shared_sweep_is_the_sweep_of_single_runs_however_it_is_killed() {
    let (single, file) = bench(false, "");
    single.ends(&file, &["--jobs", "2"], 0, &["12 of 12 runs to do"]);
    let expected = outcome(&single);
    assert_eq!(expected.len(), 12);
    assert!(shared_logs(&single).is_empty());

    let (whole, file) = bench(true, "");
    whole.ends(&file, &["--jobs", "2"], 0, &["12 of 12 runs to do"]);
    assert!(outcome(&whole) == expected, "shared runs differ");
    let logs = shared_logs(&whole);
    assert_eq!(logs.len(), 2, "a process for each stream");
    assert!(logs.iter().all(|log| log.matches("160 steps in").count() == 6), "{logs:?}");
    whole.ends(&file, &["--jobs", "2"], 0, &["0 of 12 runs to do"]);

    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64;
    println!("seed of the kills: {seed}");
    let (killed, file) = bench(true, "");
    let mut random = seed;
    for _ in 0..4 {
        let sweep = killed.start(&file, &["--jobs", "2"]);
        std::thread::sleep(Duration::from_millis(300 + (3000.0 * uniform(&mut random)) as u64));
        sweep.kill();
    }
    killed.ends(&file, &["--jobs", "2"], 0, &[]);
    assert!(outcome(&killed) == expected, "killed runs differ");
}

#[test]
fn halving_and_filters_share_too() {
    let halving = "[halving]\neta = 2\nrungs = 2\n[architectures.soft]\nhard_steps = 20\n";
    let (single, file) = bench(false, halving);
    single.ends(&file, &[], 0, &["rung 2 of 2"]);
    let (shared, file) = bench(true, halving);
    shared.ends(&file, &[], 0, &["rung 2 of 2"]);
    assert!(outcome(&shared) == outcome(&single), "halved runs differ");

    let (filtered, file) = bench(true, "");
    let some = ["--filter", "k=2", "--filter", "architecture=topk", "--filter", "seed=1"];
    filtered.ends(&file, &some, 0, &["1 of 1 runs to do"]);
    filtered.ends(&file, &["--filter", "seed=1"], 0, &["5 of 6 runs to do"]);
    let done = filtered.results().iter().filter(|run| run["status"] == "done").count();
    assert_eq!(done, 6);
    let slurm = ["--launcher", "slurm", "--dry-run"];
    filtered.asks_sweep(&file, &slurm, 2, &["share: expected --launcher local"]);
}

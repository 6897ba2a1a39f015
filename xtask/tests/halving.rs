//! Successive halving: of real runs the best go on, to the bits of runs that were never stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::bench::{Bench, json, log};
use crate::cluster::Cluster;

const AXES: &str = "architecture = ['topk', 'soft']\nlr = [1e-4, 1e-2, 3e-3, 1e-3]\n";
const SOFT: &str = "[architectures.soft]\nhard_steps = 20\n";
const HALVING: &str = "[halving]\neta = 2\nrungs = 3\n";

/// Status, steps and what was measured, by run.
fn outcome(bench: &Bench) -> BTreeMap<String, (String, u64, Value)> {
    let of = |run: &Value| {
        let status = run["status"].as_str().expect("a status").to_owned();
        let steps = run["config"]["training"]["steps"].as_u64().expect("steps");
        let id = run["run_id"].as_str().expect("an id").to_owned();
        (id, (status, steps, run["evaluation"].clone()))
    };
    bench.results().iter().map(of).collect()
}

/// The files of the models of the runs that are done, by run and name.
fn models(bench: &Bench) -> BTreeMap<(String, String), Vec<u8>> {
    let mut files = BTreeMap::new();
    for (id, (status, ..)) in outcome(bench) {
        if status != "done" {
            continue;
        }
        let model = bench.at("out/runs").join(&id).join("checkpoint");
        for entry in fs::read_dir(model).expect("a model") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            files.insert((id.clone(), name), fs::read(&path).expect("reads"));
        }
    }
    files
}

fn r2(evaluation: &Value) -> f64 {
    evaluation["reconstruction"]["r2"].as_f64().expect("a number")
}

fn has(folder: &Path, name: &str) -> bool {
    folder.join(name).exists()
}

/// Checks that the scores say who was dropped.
fn check_scores(scores: &Value, halved: &BTreeMap<String, (String, u64, Value)>) {
    for (id, (status, steps, evaluation)) in halved {
        let score = |steps: &str| scores[steps][id].as_f64();
        assert!(score("40").is_some());
        if status == "dropped" {
            assert_eq!(score(&steps.to_string()), Some(r2(evaluation)));
        } else {
            assert!(score("80").is_some() && score("160").is_none());
        }
    }
}

#[test]
fn the_best_of_each_group_go_on_to_the_bits_of_whole_runs() {
    let bench = Bench::new();
    let file = bench.write("halved.toml", 160, &format!("{AXES}{HALVING}{SOFT}"));
    let words = ["rung 1 of 3: 8 runs to 40 steps, 8 to do", "4 runs to 80 steps", "2 runs to 160"];
    bench.ends(&file, &[], 0, &words);
    assert_eq!(bench.count(" train "), 8 + 4 + 2);
    let halved = outcome(&bench);
    for group in ["topk", "soft"] {
        let is_of = |run: &&Value| run["config"]["architecture"]["name"] == group;
        let results = bench.results();
        let runs: Vec<_> = results
            .iter()
            .filter(is_of)
            .map(|run| halved[run["run_id"].as_str().expect("an id")].clone())
            .collect();
        let at = |status: &str, steps: u64| {
            runs.iter().filter(|(s, n, _)| s == status && *n == steps).count()
        };
        let counts = (at("dropped", 40), at("dropped", 80), at("done", 160));
        assert_eq!(counts, (2, 1, 1), "{group}");
    }
    for run in bench.runs() {
        assert!(has(&run, "checkpoint"), "{run:?}");
        for rest in ["training", "checkpoint-40", "checkpoint-80"] {
            assert!(!has(&run, rest), "{run:?} keeps {rest}");
        }
    }
    check_scores(&json(&bench.at("out/halving.json"))["scores"], &halved);
    let table = fs::read_to_string(bench.at("out/results.csv")).expect("a table");
    assert_eq!(table.matches(",dropped,").count(), 6, "{table}");
    assert!(bench.said().contains("steps=40"), "{}", bench.said());

    // Nothing is left to do, and other settings are refused.
    bench.ends(&file, &[], 0, &["8 runs to 40 steps, 0 to do", "2 runs to 160 steps, 0 to do"]);
    assert_eq!(bench.count(" train "), 14);
    let other = HALVING.replace("rungs = 3", "rungs = 2");
    bench.write("halved.toml", 160, &format!("{AXES}{other}{SOFT}"));
    bench.ends(&file, &[], 2, &["halving.json: the runs here were halved at [40, 80, 160] steps"]);
    let scores = fs::read(bench.at("out/halving.json")).expect("reads");
    fs::write(bench.at("out/halving.json"), "{").expect("writes");
    bench.ends(&file, &[], 2, &["halving.json", "or delete", "/out to have all runs done anew"]);
    fs::write(bench.at("out/halving.json"), scores).expect("writes");
    bench.ends(&file, &["--dry-run"], 0, &["halved by r2 within 2 groups", "4 runs to 160 steps"]);

    let models_halved = models(&bench);
    fs::rename(bench.at("out"), bench.at("before")).expect("renamed");
    let whole = bench.write("whole.toml", 160, &format!("{AXES}{SOFT}"));
    bench.ends(&whole, &[], 0, &["8 of 8 runs to do"]);
    let (all, all_models) = (outcome(&bench), models(&bench));
    for (id, (status, steps, evaluation)) in &halved {
        if status == "done" {
            assert_eq!((&all[id].1, &all[id].2), (steps, evaluation), "run {id}");
        }
    }
    assert!(models_halved.len() >= 4);
    for (file, bytes) in &models_halved {
        assert!(all_models.get(file) == Some(bytes), "{file:?} differs");
    }
}

#[test]
fn a_halved_sweep_that_is_killed_ends_as_if_undisturbed() {
    let axes = "architecture = ['topk', 'soft']\nlr = [1e-4, 1e-2, 3e-3]\n\
                checkpoint_every = [50]\n";
    let text = format!("{axes}[halving]\neta = 2\nmin_steps = 500\n{SOFT}");
    let undisturbed = Bench::new();
    let file = undisturbed.write("halved.toml", 2000, &text);
    undisturbed.ends(&file, &[], 0, &["rung 3 of 3: 2 runs to 2000 steps"]);

    let killed = Bench::new();
    let file = killed.write("halved.toml", 2000, &text);
    let mut done: BTreeMap<PathBuf, String> = BTreeMap::new();
    for moment in [400, 900, 1400, 2000, 700, 1100] {
        let sweep = killed.start(&file, &["--jobs", "2"]);
        std::thread::sleep(Duration::from_millis(moment));
        sweep.kill();
        for run in killed.runs() {
            let result = run.join("result.json");
            if result.exists() && json(&result)["status"] == "done" {
                done.insert(run.clone(), log(&run));
            }
        }
    }
    killed.ends(&file, &["--jobs", "2"], 0, &[]);
    assert_eq!(outcome(&killed), outcome(&undisturbed));
    assert_eq!(models(&killed), models(&undisturbed));
    for (run, log_then) in done {
        assert_eq!(log(&run), log_then, "{run:?} was begun again");
    }

    // A run that the sweep gets later competes with the scores of those that there were.
    let more = text.replace("3e-3]", "3e-3, 1e-30]");
    killed.write("halved.toml", 2000, &more);
    let words = ["8 runs to 500 steps, 2 to do", "rung 3 of 3: 2 runs to 2000 steps, 0 to do"];
    killed.ends(&file, &[], 0, &words);
    let now = outcome(&killed);
    for (id, run) in outcome(&undisturbed) {
        assert!(run.0 != "done" || now[&id] == run, "what was done stays");
    }
    // Two of four go on to the second rung, where one of three did: it has begun anew.
    let at_second = now.values().filter(|(status, steps, _)| status == "dropped" && *steps == 1000);
    assert_eq!(at_second.count(), 2);
    fs::rename(killed.at("out/halving.json"), killed.at("scores.json")).expect("renamed");
    killed.ends(&file, &[], 2, &["halving.json: expected the scores by which run"]);
    // Without halving, what was dropped is done whole.
    killed.write("halved.toml", 2000, &format!("{axes}{SOFT}"));
    killed.ends(&file, &["--filter", "architecture=topk"], 0, &["2 of 3 runs to do"]);
    let is_done =
        |run: &&Value| run["status"] == "done" && run["config"]["training"]["steps"] == 2000;
    assert_eq!(killed.results().iter().filter(is_done).count(), 4);
}

#[test]
fn rungs_on_slurm_end_as_those_on_this_machine() {
    let Some(cluster) = Cluster::start(1001) else { return };
    let text = format!("{AXES}checkpoint_every = [20]\n{HALVING}{SOFT}");
    let here = Bench::new();
    let file = here.write("halved.toml", 160, &text);
    // A thread a run, as the tasks have.
    here.ends(&file, &["--jobs", "2"], 0, &["rung 3 of 3: 2 runs to 160 steps, 2 to do"]);

    let there = cluster.bench();
    let file = there.write_for_slurm("halved.toml", 160, &text, "cpus = 1");
    let slurm = ["--launcher", "slurm"];
    let words = ["rung 1 of 3: 8 runs to 40 steps, 8 to do", "submitted 8 runs as array job 1"];
    there.ends(&file, &["--launcher", "slurm", "--detach"], 0, &words);
    let sweep = there.start(&file, &slurm);
    sweep.until_it_says("submitted 4 runs as array job");
    sweep.kill();
    there.ends(&file, &slurm, 0, &["submitted 2 runs as array job"]);
    assert_eq!(cluster.n_arrays(), 3, "{}", there.said());
    assert_eq!(there.count(" train "), 8 + 4 + 2, "each rung of each run is trained once");
    assert_eq!(outcome(&there), outcome(&here));
    assert_eq!(models(&there), models(&here));
    for rest in ["slurm", "programs"] {
        assert!(!there.at("out").join(rest).exists(), "{rest} is left");
    }
    there.ends(&file, &slurm, 0, &["rung 3 of 3: 2 runs to 160 steps, 0 to do"]);
    assert_eq!(cluster.n_arrays(), 3);
}

#[test]
fn a_run_that_fails_does_not_compete() {
    let bench = Bench::new();
    let axes = "lr = [1e-3, 1e30, 1e-4]\n";
    let file = bench.write("halved.toml", 80, &format!("{axes}[halving]\neta = 2\nrungs = 2\n"));
    bench.ends(&file, &[], 1, &["1 of 3 runs failed", "rung 2 of 2: 1 runs to 80 steps"]);
    let statuses: Vec<_> = bench.results().iter().map(|run| run["status"].clone()).collect();
    assert_eq!(statuses, ["done", "failed", "dropped"]);
    // The next start tries it again, and nothing else.
    bench.ends(&file, &[], 1, &["3 runs to 40 steps, 1 to do", "1 runs to 80 steps, 0 to do"]);

    let file = bench.write("other.toml", 80, "lr = [1e-3]\n[halving]\nrungs = 2\neta = 20\n");
    bench.ends(&file, &[], 2, &["`architecture.threshold_start_step`: expected less than"]);
}

//! Commands on the folders of sweeps that were really made.

use std::fs;
use std::process::{Command, Stdio};

use crate::bench::{Bench, json, log};

const AXES: &str = "k = [2, 4]\nseed = [0, 1]";

#[test]
fn results_and_commands_of_a_sweep_with_a_run_that_fails() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, &format!("{AXES}\nlr = [1e-3, 1e30]"));
    bench.ends(&file, &[], 1, &["4 of 8 runs failed"]);
    let results = bench.results();
    let failed: Vec<&str> = results
        .iter()
        .filter(|run| run["status"] == "failed")
        .map(|run| run["run_id"].as_str().expect("an id"))
        .collect();
    assert_eq!((results.len(), failed.len()), (8, 4));
    let equal = fs::read_to_string(bench.at("out/equal-l0.csv")).expect("reads");
    assert!(equal.starts_with("group,training.lr,l0,r2_mean,r2_sd_seeds,r2_n_seeds"), "{equal}");
    assert!(equal.contains("topk lr=1e-3,1e-3,") && !equal.contains("topk lr=1e30,"), "{equal}");

    let (code, said) = bench.asks(&["sweep", "status", "out"]);
    assert!(code == Some(0) && said.contains("8 runs: 4 done, 4 failed"), "{said}");
    assert!(said.contains(&format!("{}  topk lr=1e30 k=2 seed=0: failed: ", failed[0])), "{said}");
    let (code, said) = bench.asks(&["sweep", "logs", "out", &failed[0][..6]]);
    assert_eq!((code, said), (Some(0), log(&bench.at("out/runs").join(failed[0]))));
    for args in [["status", "nowhere"], ["status", "--watch"], ["logs", "out"], ["rm", "out"]] {
        let (code, said) = bench.asks(&[&["sweep"], &args[..]].concat());
        assert_eq!(code, Some(2), "{said}");
    }

    let (code, said) = bench.asks(&["sweep", "rm", "out", "--failed", "--yes"]);
    assert!(code == Some(0) && bench.runs().len() == 4, "{said}");
    let (_, said) = bench.asks(&["sweep", "status", "out"]);
    assert!(said.contains("8 runs: 4 done, 4 pending"), "{said}");
    assert!(bench.results().iter().all(|run| run["status"] != "failed"));
}

#[test]
fn a_sweep_file_to_begin_with_is_written_once_and_runs() {
    let bench = Bench::new();
    let (code, said) = bench.asks(&["sweep", "--init", "mine.toml"]);
    assert!(code == Some(0) && said.contains("wrote mine.toml"), "{said}");
    let before = fs::read(bench.at("mine.toml")).expect("reads");
    let (code, said) = bench.asks(&["sweep", "--init", "mine.toml"]);
    assert!(code == Some(2) && said.contains("--init: expected a new file"), "{said}");
    assert_eq!(fs::read(bench.at("mine.toml")).expect("reads"), before);
    let (code, said) = bench.asks(&["sweep", "mine.toml", "--dry-run"]);
    assert!(code == Some(0) && said.contains("36 runs"), "{said}");
    let (code, said) = bench.asks(&["sweep", "--help"]);
    assert!(code == Some(0) && said.contains("[planted]") && said.contains("[axes]"), "{said}");
    // Each of them is found in the runs of the file.
    let filter = ["sweep", "mine.toml", "--dry-run", "--filter"];
    let (code, said) = bench.asks(&[&filter[..], &["k=4", "--filter", "seed=1"]].concat());
    assert!(code == Some(0) && said.contains("9 runs"), "{said}");
    let (code, said) = bench.asks(&[&filter[..], &["kk=4"]].concat());
    assert!(code == Some(2) && said.contains("got `kk`; near it: k,"), "{said}");
    let (code, said) = bench.asks(&[&filter[..], &["k=5"]].concat());
    assert!(code == Some(2) && said.contains("that some run has (4, 8), got `5`"), "{said}");
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let bench = Bench::new();
    assert_eq!(bench.asks(&["sweep", "--init", "mine.toml"]).0, Some(0));
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["sweep", "mine.toml", "--dry-run", "--out", "out"]);
    command.current_dir(bench.at("")).envs(bench.variables.iter().cloned());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("xtask starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn no_command_minds_a_reader_that_has_gone() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, AXES);
    bench.ends(&file, &[], 0, &[]);
    for args in [
        &["sweep", "status", "out"][..],
        &["sweep", "logs", "out", "1"],
        &["sweep", "diff", "out", "out"],
        &["sweep", "rm", "out", "--failed"],
        &["sweep", "rm", "out", "1", "--yes"],
        &["report", "out"],
        &["sweep", "--help"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).current_dir(bench.at("")).envs(bench.variables.iter().cloned());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("xtask starts");
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{args:?}");
    }
}

#[test]
fn runs_have_no_numbers_where_nothing_says_their_order() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, AXES);
    bench.ends(&file, &[], 0, &[]);
    fs::write(bench.at("out/results.json"), "{").expect("writes");
    for args in [&["sweep", "rm", "out", "2", "--yes"][..], &["sweep", "logs", "out", "2"]] {
        let (code, said) = bench.asks(args);
        assert!(code == Some(2) && said.contains("the runs have no numbers"), "{said}");
    }
    assert_eq!(bench.runs().len(), 4, "nothing was removed");
    let (code, said) = bench.asks(&["sweep", "diff", "out/1", "out/2"]);
    assert!(code == Some(2) && said.contains("the runs have no numbers"), "{said}");
    let id = bench.runs()[0].file_name().expect("a name").to_str().expect("UTF-8").to_owned();
    assert_eq!(bench.asks(&["sweep", "logs", "out", &id]).0, Some(0));
}

#[test]
fn every_two_seeds_of_a_setting_are_compared() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, "k = [2, 4]\nseed = [0, 1]");
    bench.ends(&file, &["--suite", "stability"], 0, &["suite stability: 2 pairs of seeds"]);
    let table = fs::read_to_string(bench.at("out/stability.csv")).expect("reads");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(!bench.at("out/programs").exists(), "no copy of a program is left");

    // What is lost is compared anew.
    let made = |run: &std::path::PathBuf| {
        let mut files = fs::read_dir(run).expect("lists").map(|of| of.expect("an entry").path());
        files.find(|of| of.to_string_lossy().contains("/compare-"))
    };
    let of_pair = bench.runs().iter().find_map(made).expect("a comparison");
    fs::remove_file(&of_pair).expect("removed");
    bench.ends(&file, &["--suite", "stability"], 0, &["0 of 4 runs to do"]);
    assert!(of_pair.is_file(), "compared anew");
}

#[test]
fn two_sweeps_are_compared() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, AXES);
    bench.ends(&file, &[], 0, &[" ± ", "R² at"]);
    fs::rename(bench.at("out"), bench.at("before")).expect("renamed");
    let longer = bench.write("longer.toml", 40, AXES);
    bench.ends(&longer, &[], 0, &[]);
    let (code, said) = bench.asks(&["sweep", "diff", "before", "out"]);
    assert_eq!(code, Some(0), "{said}");
    for words in ["4 pairs, 0 of them the same run", "training.steps: 20 in A, 40 in B (4 of 4"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("decay_start"), "it follows from the steps: {said}");
    let (code, said) = bench.asks(&["sweep", "diff", "before/1", "before/2"]);
    assert!(code == Some(0) && said.contains("training.seed"), "{said}");
    assert_eq!(bench.asks(&["sweep", "diff", "before/1", "out"]).0, Some(2));
}

#[test]
fn one_broken_run_costs_no_other_its_results() {
    let bench = Bench::new();
    let file = bench.write("mine.toml", 20, AXES);
    bench.ends(&file, &[], 0, &[]);
    let results = bench.results();
    let runs = bench.runs();
    fs::write(runs[0].join("metrics.jsonl"), "\0\0\n{}\n").expect("writes");
    let mut foreign = json(&runs[1].join("result.json"));
    foreign["run_id"] = "another".into();
    fs::write(runs[1].join("result.json"), foreign.to_string()).expect("writes");
    let (code, said) = bench.asks(&["sweep", "status", "out"]);
    assert!(code == Some(0) && said.contains("3 done, 1 stale"), "{said}");
    assert!(said.contains("is of run another"), "{said}");
    let (code, said) = bench.asks(&["report", "out"]);
    assert!(code == Some(0) && said.contains("metrics.jsonl, line 1"), "{said}");
    // The sweep sets the foreign result aside, does that run again, and has what it had.
    bench.ends(&file, &[], 0, &["1 of 4 runs to do"]);
    let scores = |runs: &[serde_json::Value]| -> Vec<serde_json::Value> {
        runs.iter().map(|run| run["evaluation"].clone()).collect()
    };
    assert_eq!(scores(&bench.results()), scores(&results));
}

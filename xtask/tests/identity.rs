//! What is the same run, and what is not: finished runs are not repeated, and never reused for
//! other data or another meaning.

mod refusals;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::bench::{Bench, until};
use crate::npy;

/// A sweep over two stores in folders of their own; `more` is lines of its base run.
fn write(bench: &Bench, train: &str, more: &str) -> PathBuf {
    let text = format!(
        "[stores]\ntrain = '{train}'\nheld_out = 'held-out'\n\
         [base]\narchitecture = {{ name = 'topk', k = 2 }}\nsae.n_features = 32\n\
         [base.training]\nsteps = 20\nbatch_size = 32\nlr = 1e-3\n{more}\n"
    );
    let file = bench.at("sweep.toml");
    fs::write(&file, text).expect("writes");
    file
}

/// Folders with a file of rows each, which nothing has read.
fn bench() -> Bench {
    let bench = Bench::new();
    for (name, n_rows, seed) in [("train", 500, 1), ("held-out", 200, 2)] {
        fs::create_dir(bench.at(name)).expect("made");
        npy::write(&bench.at(name).join("acts.npy"), n_rows, 16, seed);
    }
    bench
}

fn modified(file: &Path) -> SystemTime {
    fs::metadata(file).and_then(|metadata| metadata.modified()).expect("a time")
}

fn set_modified(file: &Path, time: SystemTime) {
    let open = File::options().write(true).open(file).expect("opens");
    open.set_modified(time).expect("set");
}

const DONE: &[&str] = &["0 of 1 runs to do"];
const AGAIN: &[&str] = &["1 of 1 runs to do"];

#[test]
fn a_store_in_a_folder_is_known_by_its_content() {
    let bench = bench();
    let file = write(&bench, "train", "");
    bench.ends(&file, &[], 0, AGAIN);
    let is_hidden = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    let entries = fs::read_dir(bench.at("train")).expect("reads");
    assert!(entries.flatten().any(is_hidden), "training keeps what it has found out of a store");
    bench.ends(&file, &[], 0, DONE);

    let rows = bench.at("train/acts.npy");
    set_modified(&rows, SystemTime::UNIX_EPOCH);
    bench.ends(&file, &[], 0, DONE);
    fs::rename(bench.at("train"), bench.at("moved")).expect("renamed");
    fs::rename(bench.at("moved/acts.npy"), bench.at("moved/rows.npy")).expect("renamed");
    let file = write(&bench, "moved", "");
    bench.ends(&file, &[], 0, DONE);
    fs::create_dir(bench.at("copy")).expect("made");
    fs::copy(bench.at("moved/rows.npy"), bench.at("copy/rows.npy")).expect("copied");
    bench.ends(&write(&bench, "copy", ""), &[], 0, DONE);
    assert_eq!(bench.count("--resume"), 1);

    // Other rows with the same name, length and time.
    let rows = bench.at("moved/rows.npy");
    let (length, time) = (fs::metadata(&rows).expect("there").len(), modified(&rows));
    npy::write(&bench.at("other.npy"), 500, 16, 3);
    fs::rename(bench.at("other.npy"), &rows).expect("renamed");
    set_modified(&rows, time);
    assert_eq!((fs::metadata(&rows).expect("there").len(), modified(&rows)), (length, time));
    let file = write(&bench, "moved", "");
    // The folder holds a run of other data only, so that another is asked for.
    bench.ends(&file, &[], 2, &["holds 1 runs of another sweep"]);
    bench.asks_sweep(&file, &["--out", "again"], 0, AGAIN);
}

#[test]
fn a_change_that_shapes_no_result_repeats_nothing() {
    let bench = bench();
    bench.ends(&write(&bench, "train", ""), &[], 0, AGAIN);
    for more in [
        "log_every = 3",
        "checkpoint_every = 5",
        "keep_checkpoints = 7",
        "seed = 0",
        "decay_start = 16",
        "micro_batch = 32\nengine = 'fast'\nprecision = 'f32'",
    ] {
        bench.ends(&write(&bench, "train", more), &[], 0, DONE);
    }
    assert_eq!(bench.count("--resume"), 1);
    let file = write(&bench, "train", "[axes]\nlog_every = [1, 2]");
    let words = ["sweep.toml", "`axes`: expected runs that differ"];
    bench.ends(&file, &["--dry-run"], 2, &words);
    // More runs, and another bookkeeping for all.
    let file = write(&bench, "train", "[axes]\nseed = [0, 1]\nlog_every = [4]");
    bench.ends(&file, &[], 0, &["1 of 2 runs to do"]);
}

#[test]
fn first_weights_and_lists_of_rows_are_known_by_their_content() {
    let bench = bench();
    bench.ends(&write(&bench, "train", ""), &[], 0, AGAIN);
    let checkpoint = bench.runs()[0].join("checkpoint");
    let copy = |name: &str| {
        fs::create_dir(bench.at(name)).expect("made");
        for file in ["sae.json", "sae.safetensors"] {
            fs::copy(checkpoint.join(file), bench.at(name).join(file)).expect("copied");
        }
    };
    copy("first");
    copy("second");
    fs::write(bench.at("a.txt"), "1\n2\n3\n").expect("writes");
    fs::write(bench.at("b.txt"), "1\n2\n3\n").expect("writes");
    let run = |init: &str, rows: &str, words: &[&str]| {
        let more = format!("init = '{init}'\n[base.data]\nrows = '{rows}'");
        bench.asks_sweep(&write(&bench, "train", &more), &["--out", "own"], 0, words);
    };
    run("first", "a.txt", AGAIN);
    run("second", "b.txt", DONE);
    fs::write(bench.at("b.txt"), "1\n2\n4\n").expect("writes");
    run("second", "b.txt", AGAIN);
    let more = "init = 'second'\n[base.data]\nrows = 'b.txt'";
    fs::write(bench.at("second/sae.json"), "{}").expect("writes");
    let words = ["training.init", "second", "expected architecture \"topk\", got null"];
    bench.asks_sweep(&write(&bench, "train", more), &["--dry-run"], 2, &words);
}

#[test]
fn a_store_that_a_sweep_has_made_is_checked_too() {
    let bench = Bench::new();
    let file = bench.write("one.toml", 20, "seed = [0]");
    bench.ends(&file, &[], 0, AGAIN);
    // A default that is written out is the same store and the same run.
    let text = fs::read_to_string(&file).expect("reads");
    fs::write(&file, text.replace("k_max = 4", "k_max = 4, seed = 0, noise = 0.05"))
        .expect("writes");
    bench.ends(&file, &[], 0, DONE);
    let stores = fs::read_dir(bench.at("bundle/target/stores")).expect("reads");
    let stores: Vec<_> = stores.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    assert_eq!(stores.len(), 2);
    for store in &stores {
        let shard = store.join("shard-00000.safetensors");
        let length = fs::metadata(&shard).expect("there").len();
        let cut = File::options().write(true).open(&shard).and_then(|f| f.set_len(length / 2));
        cut.expect("cut");
    }
    bench.ends(&file, &["--dry-run"], 2, &["train activations", "bytes, got"]);
}

/// The stores that sweeps have made, by name, with the length of their first shards.
fn made(bench: &Bench) -> BTreeMap<PathBuf, u64> {
    let stores = fs::read_dir(bench.at("bundle/target/stores")).expect("reads");
    let paths = stores.map(|entry| entry.expect("an entry").path());
    let length =
        |path: &PathBuf| fs::metadata(path.join("shard-00000.safetensors")).expect("a shard").len();
    paths
        .filter(|p| p.is_dir() && p.extension().is_none())
        .map(|p| (p.clone(), length(&p)))
        .collect()
}

#[test]
fn a_store_that_was_replaced_is_made_again() {
    let bench = Bench::new();
    let file = bench.write("one.toml", 20, "seed = [0]");
    bench.ends(&file, &[], 0, AGAIN);
    let (expected, own) = (measured(&bench), made(&bench));
    // Valid stores of the same shape.
    let other = bench.at("other.toml");
    let text = fs::read_to_string(&file).expect("reads");
    fs::write(&other, text.replace("k_max = 4", "k_max = 4, seed = 1")).expect("writes");
    bench.asks_sweep(&other, &["--out", "other"], 0, AGAIN);
    for (store, length) in &own {
        let all = made(&bench);
        let (other, _) = all
            .iter()
            .find(|(p, n)| *n == length && !own.contains_key(*p))
            .expect("a store like it");
        fs::remove_dir_all(store).expect("removed");
        fs::rename(other, store).expect("renamed");
    }
    let again = |words: &[&str]| {
        fs::remove_dir_all(bench.at("out")).expect("removed");
        bench.ends(&file, &[], 0, words);
        assert_eq!(measured(&bench), expected);
    };
    again(&["not known to be what a sweep made there", "planting held-out activations"]);
    assert_eq!(made(&bench), own);
    again(&[]);
    assert_eq!(bench.said().matches("not known to be").count(), 2, "{}", bench.said());
    // The truth that runs are judged by.
    for store in own.keys() {
        let aside = store.with_extension("aside-1").join("truth.safetensors");
        fs::copy(aside, store.join("truth.safetensors")).expect("copied");
    }
    again(&["not known to be what a sweep made there"]);
}

/// What each run that is done was measured at, by its id.
fn measured(bench: &Bench) -> BTreeMap<String, Value> {
    let done = bench.results().into_iter().filter(|run| run["status"] == "done");
    done.map(|run| (run["run_id"].to_string(), run["evaluation"].clone())).collect()
}

#[test]
fn data_that_changes_under_a_sweep_gives_no_result() {
    const AXES: &str = "[axes]\nseed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let undisturbed = bench();
    let all = "10 of 10 runs to do";
    undisturbed.ends(&write(&undisturbed, "train", AXES), &[], 0, &[all]);
    let expected = measured(&undisturbed);
    assert_eq!(expected.len(), 10);

    for (place, n_rows, seed) in [("train", 500, 1), ("held-out", 200, 2)] {
        let bench = bench();
        let rows = bench.at(place).join("acts.npy");
        let sweep = bench.start(&write(&bench, "train", AXES), &[]);
        let has_result = |run: &PathBuf| run.join("result.json").exists();
        until("a result", || bench.runs().iter().any(has_result));
        npy::write(&rows, n_rows, 16, 9);
        assert_eq!(sweep.wait().code(), Some(1), "{}", bench.said());
        assert!(bench.said().contains("changed since"), "{}", bench.said());
        let so_far = measured(&bench);
        assert!(!so_far.is_empty() && so_far.len() < 10, "{}", bench.said());
        assert!(so_far.iter().all(|(id, evaluation)| expected[id] == *evaluation), "{place}");

        npy::write(&rows, n_rows, 16, seed);
        bench.ends(&write(&bench, "train", AXES), &[], 0, &["of 10 runs to do"]);
        assert_eq!(measured(&bench), expected, "{place}");
    }
}

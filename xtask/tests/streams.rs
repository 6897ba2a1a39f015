//! Sweeps on a live host, and over several hook points of one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::bench::Bench;

/// A bench with a tiny host of 97 words, and lines of documents of them.
fn bench() -> Bench {
    let bench = Bench::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/sae-hosts/testdata/golden/hosts/llama");
    let host = bench.at("host");
    fs::create_dir(&host).expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(file), host.join(file)).expect("a golden file");
    }
    let words: Map<String, Value> = (0..97).map(|id| (format!("w{id}"), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    });
    fs::write(host.join("tokenizer.json"), tokenizer.to_string()).expect("writes");
    let document = |n: u64| {
        let mut state = n;
        let mut word = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            format!("w{}", 4 + (state >> 40) % 90)
        };
        (0..60).map(|_| word()).collect::<Vec<_>>().join(" ")
    };
    let lines: String = (0..80).map(|n| format!("{}\n", json!({ "text": document(n) }))).collect();
    fs::write(bench.at("lines.jsonl"), lines).expect("writes");
    for (name, from) in [("train.txt", 100), ("held-out.txt", 200)] {
        let text: Vec<_> = (from..from + 30).map(document).collect();
        fs::write(bench.at(name), text.join("\n")).expect("writes");
    }
    bench
}

const RUNS: &str = "[base]\nsae.n_features = 64\n[base.training]\nsteps = 60\nbatch_size = 64\n\
                    lr = 1e-3\n[axes]\narchitecture = ['topk', 'soft']\nk = [4]\n\
                    hook = ['resid_post.1', 'mlp_in.1']\n";

/// Hook point and R² of each run, which are done.
fn scores(bench: &Bench) -> Vec<(String, f64)> {
    let of = |run: &Value| {
        assert_eq!(run["status"], "done", "{run}");
        let hook = run["config"]["data"]["hook"].as_str().expect("a hook point").to_owned();
        (hook, run["evaluation"]["reconstruction"]["r2"].as_f64().expect("a number"))
    };
    bench.results().iter().map(of).collect()
}

fn differ(scores: &[(String, f64)]) {
    let hooks: BTreeSet<_> = scores.iter().map(|(hook, _)| hook.as_str()).collect();
    assert_eq!(hooks, BTreeSet::from(["mlp_in.1", "resid_post.1"]));
    assert_eq!(scores.len(), 4);
    let of = |hook: &str| scores.iter().find(|(of, _)| of == hook).expect("a run").1;
    assert!(of("mlp_in.1") != of("resid_post.1"), "{scores:?}");
}

/// The runs of a live host are those of stores that are harvested from the same corpus.
#[test]
fn runs_take_their_activations_from_a_live_host() {
    let bench = bench();
    let live = "data = { host = 'host', hook = 'embed', context_length = 16, window_bytes = 40000, \
                corpus = { path = 'lines.jsonl', split = 'train', held_out = 0.2 } }\n";
    let sweep = |share: bool, more: &str| {
        let text = format!(
            "share = {share}\n{more}\n{}",
            RUNS.replace("[base]\n", &format!("[base]\n{live}"))
        );
        let file = bench.at("live.toml");
        fs::write(&file, text).expect("writes");
        file
    };
    let texts = "held_out.texts = ['held-out.txt']";
    let file = sweep(true, texts);
    let said = ["train activations: ", "host reads ", "mlp_in.1 of 100000 held-out tokens at most"];
    bench.asks_sweep(&file, &["--dry-run"], 0, &said);
    bench.ends(&file, &[], 0, &["harvesting held-out activations", "4 of 4 runs to do"]);
    let shared = scores(&bench);
    differ(&shared);
    assert!(bench.results().iter().all(|run| run["evaluation"]["cross_entropy"].is_object()));
    let logs = fs::read_dir(bench.at("out/shared")).expect("a folder").count();
    assert_eq!(logs, 2, "a process for each hook point");
    bench.ends(&file, &[], 0, &["0 of 4 runs to do"]);

    // One by one they are the same, and are not known to have been done otherwise.
    fs::remove_dir_all(bench.at("out")).expect("removed");
    bench.ends(&sweep(false, texts), &[], 0, &["4 of 4 runs to do"]);
    assert_eq!(scores(&bench), shared);

    // Another corpus is another sweep.
    let lines = fs::read_to_string(bench.at("lines.jsonl")).expect("reads");
    fs::write(bench.at("lines.jsonl"), lines.replacen("w5", "w6", 1)).expect("writes");
    let file = sweep(false, texts);
    let (code, said) = bench.asks(&["sweep", file.to_str().expect("UTF-8"), "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    let ids: Vec<_> = bench.runs();
    assert!(
        ids.iter().all(|run| !said.contains(run.file_name().unwrap().to_str().unwrap())),
        "{said}"
    );

    for (from, to, words) in [
        ("split = 'train', ", "", "base.data.corpus.split"),
        ("'host', hook", "'nowhere', hook", "base.data.host"),
        ("'lines.jsonl'", "'hf:a/b'", "expected a commit as the revision"),
        ("'mlp_in.1'", "'mlp_in.x'", "data.hook"),
    ] {
        let text = fs::read_to_string(sweep(false, "")).expect("reads");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).expect("writes");
        bench.asks_sweep(&file, &["--dry-run"], 2, &[words]);
    }
}

/// A store that is given to judge by has to be of the hook point of the runs.
#[test]
fn live_runs_are_judged_by_a_store_of_their_hook_point() {
    let bench = bench();
    let sweep = |hook: &str, store: &str| {
        let runs = RUNS.split("hook = [").next().expect("runs");
        let data = format!(
            "data = {{ host = 'host', hook = '{hook}', context_length = 16, \
             corpus.path = 'lines.jsonl' }}\n"
        );
        let text = format!(
            "held_out.store = '{store}'\n{}",
            runs.replace("[base]\n", &format!("[base]\n{data}"))
        );
        let file = bench.at("live.toml");
        fs::write(&file, text).expect("writes");
        file
    };
    let harvested = "[host]\npath = 'host'\n[harvest]\nhook = 'embed'\ncontext_length = 16\n\
                     [texts]\ntrain = ['train.txt']\nheld_out = ['held-out.txt']\n";
    let made = format!("{harvested}{}", RUNS.split("hook = [").next().expect("runs"));
    fs::write(bench.at("made.toml"), made).expect("writes");
    bench.ends(&bench.at("made.toml"), &[], 0, &["2 of 2 runs to do"]);
    let stores = bench.at("bundle/target/stores");
    let store = fs::read_dir(&stores).expect("stores").find_map(|entry| {
        let path = entry.expect("an entry").path();
        path.is_dir().then(|| path.display().to_string())
    });
    let store = store.expect("a store");
    fs::remove_dir_all(bench.at("out")).expect("removed");
    bench.ends(&sweep("embed", &store), &[], 0, &["2 of 2 runs to do"]);
    let other = ["held_out.store", "expected rows of mlp_in.1, got embed"];
    bench.asks_sweep(&sweep("mlp_in.1", &store), &["--dry-run"], 2, &other);
}

/// Several hook points of a host that reads texts: one harvest each of the texts to train on and to
/// judge by.
#[test]
fn one_harvest_gives_the_stores_of_several_hook_points() {
    let bench = bench();
    let source = "[host]\npath = 'host'\n[harvest]\ncontext_length = 16\n\
                  [texts]\ntrain = ['train.txt']\nheld_out = ['held-out.txt']\n";
    let file = bench.at("hooks.toml");
    fs::write(&file, format!("{source}{RUNS}")).expect("writes");
    bench.ends(&file, &[], 0, &["4 of 4 runs to do"]);
    let made = bench.said();
    for name in ["train", "held-out"] {
        let line = format!("harvesting {name} activations: done");
        assert_eq!(made.matches(&line).count(), 1, "{made}");
    }
    let several = scores(&bench);
    differ(&several);
    // A sweep of one of them takes the store that is there, and another number for its runs.
    fs::remove_dir_all(bench.at("out")).expect("removed");
    let one = source.replace("[harvest]\n", "[harvest]\nhook = 'mlp_in.1'\n");
    let runs = RUNS.replace("hook = ['resid_post.1', 'mlp_in.1']\n", "");
    fs::write(&file, format!("{one}{runs}")).expect("writes");
    let before = bench.said().len();
    bench.ends(&file, &[], 0, &["2 of 2 runs to do"]);
    assert!(!bench.said()[before..].contains("harvesting"), "{}", bench.said());
    let alone: Vec<f64> = bench
        .results()
        .iter()
        .map(|run| run["evaluation"]["reconstruction"]["r2"].as_f64().expect("a number"))
        .collect();
    let of_both: Vec<f64> =
        several.iter().filter(|(hook, _)| hook == "mlp_in.1").map(|(_, r2)| *r2).collect();
    assert_eq!(alone, of_both);
    // The report tells them apart.
    let filter = ["--filter", "hook=mlp_in.1", "--dry-run"];
    fs::write(&file, format!("{source}{RUNS}")).expect("writes");
    bench.asks_sweep(&file, &filter, 0, &["2 runs"]);
}

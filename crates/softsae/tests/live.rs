//! Training straight from a host: as from a store of the same rows, also where it is killed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::features::{host, tokenizer};
use crate::{fail, metrics, softsae, softsae_program, str, succeed, text};

/// A folder with a tiny host and texts of 3 × 420 of its tokens.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    host(&folder.path().join("host"), "llama");
    tokenizer(&folder.path().join("host"), &|id| format!("w{id}"));
    fs::create_dir(folder.path().join("texts")).expect("a folder");
    for n in 0..3 {
        let words: Vec<_> = (0..420_u64).map(|i| format!("w{}", 4 + (i * i + n) % 40)).collect();
        fs::write(folder.path().join(format!("texts/{n}.txt")), words.join(" ")).expect("writes");
    }
    folder
}

/// The run over `data`, with `more` lines of its training.
pub(crate) fn run_toml(data: &str, more: &str) -> String {
    format!(
        "sae.n_features = 64\narchitecture = {{ name = 'topk', k = 4 }}\n[training]\nsteps = 40\n\
         batch_size = 64\nlr = 1e-3\nlog_every = 1\ncheckpoint_every = 3\n{more}\n[data]\n{data}\n"
    )
}

/// The live data of a folder; `more` lines come before the corpus.
pub(crate) fn live(folder: &Path, more: &str) -> String {
    let (host, texts) = (folder.join("host"), folder.join("texts"));
    format!(
        "host = {host:?}\nhook = 'mlp_in.1'\ncontext_length = 16\n{more}\n\
         [data.corpus]\npath = {texts:?}\n"
    )
}

fn train(folder: &Path, name: &str, data: &str, more: &str) {
    let config = folder.join(format!("{name}.toml"));
    fs::write(&config, run_toml(data, more)).expect("writes");
    let out = folder.join(name);
    succeed(["train", str(&config), "--out", str(&out), "--resume", "--threads", "1"]);
}

/// The weights of a run, and its log but for the clock.
pub(crate) fn outcome(folder: &Path, name: &str) -> (Vec<u8>, Vec<serde_json::Value>) {
    let out = folder.join(name);
    (fs::read(out.join("checkpoint/sae.safetensors")).expect("weights"), metrics(&out))
}

#[test]
fn a_live_run_is_one_over_a_store_of_the_same_rows() {
    let folder = folder();
    let at = folder.path();
    for (name, target) in [("sae", ""), ("transcoder", "target_hook = 'mlp_out.1'")] {
        train(at, &format!("{name}-live"), &live(at, target), "");
        let harvest = |hook: &str| {
            let (host, out) = (at.join("host"), at.join(format!("{name}-{hook}")));
            let mut args =
                vec!["harvest", "--host", str(&host), "--hook", hook, "--out", str(&out)];
            args.extend(["--context-length", "16", "--threads", "1"]);
            let texts: Vec<_> = (0..3).map(|n| at.join(format!("texts/{n}.txt"))).collect();
            args.extend(texts.iter().flat_map(|text| ["--text", str(text)]));
            succeed(args);
            out
        };
        let mut data = format!("store = {:?}", harvest("mlp_in.1"));
        if !target.is_empty() {
            data.push_str(&format!("\ntarget = {:?}", harvest("mlp_out.1")));
        }
        train(at, &format!("{name}-stored"), &data, "");
        let (live, stored) =
            (outcome(at, &format!("{name}-live")), outcome(at, &format!("{name}-stored")));
        assert!(live == stored, "{name}: weights or log differ");
        assert_eq!(live.1.last().expect("a line")["epoch"], 2);

        let of = |run: &str| {
            let path = at.join(format!("{name}-{run}/checkpoint"));
            let said = succeed(["inspect", str(&path)]);
            let keep = |line: &&str| !line.starts_with("data_hash");
            said.lines().filter(keep).map(str::to_owned).collect::<Vec<_>>()
        };
        let (live, stored) = (of("live"), of("stored"));
        assert_eq!(live, stored, "{name}: what the checkpoints say of themselves");
        assert!(live.iter().any(|line| line.contains("mlp_in.1")), "{live:?}");
    }
}

#[test]
fn a_live_run_that_is_killed_ends_in_the_same_bits() {
    let folder = folder();
    let at = folder.path();
    // Several windows an epoch, and several epochs.
    let data = live(at, "window_bytes = 60000");
    let started = Instant::now();
    train(at, "whole", &data, "");
    let took = started.elapsed();
    let expected = outcome(at, "whole");
    let (config, out) = (at.join("whole.toml"), at.join("killed"));
    let mut kills = 0;
    for part in [0.3, 0.5, 0.7, 0.8, 0.9] {
        let mut command = Command::new(softsae_program());
        command.args(["train", str(&config), "--out", str(&out), "--resume", "--threads", "1"]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("softsae starts");
        std::thread::sleep(took.mul_f64(part));
        child.kill().expect("killed, or ended before");
        kills += usize::from(!child.wait().expect("ended").success());
    }
    assert!(kills > 0, "no moment was soon enough");
    succeed(["train", str(&config), "--out", str(&out), "--resume", "--threads", "1"]);
    assert!(outcome(at, "killed") == expected, "differs after {kills} kills");
}

#[test]
fn the_end_of_the_corpus_is_told_and_other_data_are_refused() {
    let folder = folder();
    let at = folder.path();
    let (config, out) = (at.join("run.toml"), at.join("out"));
    fs::write(&config, run_toml(&live(at, ""), "keep_checkpoints = 2")).expect("writes");
    let output = softsae(["train", str(&config), "--out", str(&out)]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("data.corpus: read to its end, 2 times so far"), "{said}");
    let resolved = fs::read_to_string(out.join("run.toml")).expect("reads");
    for line in ["window_bytes = 134217728", "bos = \"auto\"", "skip_positions = 1"] {
        assert!(resolved.contains(line), "{line}: {resolved}");
    }
    // The resolved file is the same run.
    let again = out.join("run.toml");
    let said = succeed(["train", str(&again), "--out", str(&out), "--resume"]);
    assert!(said.contains("in 0.0 s"), "{said}");

    let resume = ["train", str(&config), "--out", str(&out), "--resume"];
    let longer = live(at, "").replace("context_length = 16", "context_length = 17");
    fs::write(&config, run_toml(&longer, "")).expect("writes");
    fail(resume, 2, &["`data.context_length`: expected 17, got 16"]);
    fs::write(&config, run_toml(&live(at, ""), "")).expect("writes");
    fs::write(at.join("texts/1.txt"), "w5 w6 w7").expect("writes");
    fail(resume, 2, &["data.host, data.corpus", "expected activations of hash"]);
}

#[test]
fn the_plan_counts_the_window_and_what_cannot_be_is_refused_by_key() {
    let folder = folder();
    let at = folder.path();
    let (config, out) = (at.join("run.toml"), at.join("out"));
    fs::write(&config, run_toml(&live(at, "window_bytes = 3000000000"), "")).expect("writes");
    let plan = softsae(["train", str(&config), "--plan"]);
    let said = text(&plan.stdout);
    let window = said.lines().find(|line| line.starts_with("window")).expect("a line");
    let megabytes: f64 = window.split_whitespace().nth(1).expect("a number").parse().expect("MB");
    assert!((3000.0..3200.0).contains(&megabytes), "{window}");
    for (more, words) in [
        ("window_bytes = 1000000000000000", ["data.window_bytes", "MB of it for the window"]),
        ("window_bytes = 100", ["data.window_bytes", "contexts that the host reads at once"]),
        ("target_hook = 'mlp_out.9'", ["mlp_out.9", "expected a layer from 0"]),
        ("statistics_rows = 1", ["data.statistics_rows", "at least 2"]),
        ("store = 'a'", ["`host`", "`store`"]),
    ] {
        fs::write(&config, run_toml(&live(at, more), "")).expect("writes");
        fail(["train", str(&config), "--out", str(&out)], 2, &words);
    }
    let host = at.join("host");
    fs::write(&config, run_toml(&live(at, ""), "")).expect("writes");
    fail(["train", str(&config), "--out", str(&host)], 2, &["--out", "no part of the input"]);
    fs::remove_dir_all(at.join("texts")).expect("removed");
    fail(["train", str(&config), "--out", str(&out)], 2, &["texts"]);
}

/// SmolLM2 for a few steps: the same weights from a store as without one.
#[test]
fn a_real_host_gives_the_weights_of_a_store_of_its_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    let (host, prose) = (crate::smollm2(), at.join("prose.txt"));
    fs::write(&prose, "It was the best of times, it was the worst of times. ".repeat(40))
        .expect("writes");
    let data = format!(
        "host = {host:?}\nhook = 'resid_post.1'\ncontext_length = 32\n\
         [data.corpus]\npath = {prose:?}\n"
    );
    train(at, "live", &data, "");
    let store = at.join("store");
    succeed([
        "harvest",
        "--host",
        str(&host),
        "--text",
        str(&prose),
        "--hook",
        "resid_post.1",
        "--out",
        str(&store),
        "--context-length",
        "32",
        "--threads",
        "1",
    ]);
    train(at, "stored", &format!("store = {store:?}"), "");
    assert!(outcome(at, "live") == outcome(at, "stored"), "weights or log differ");
}

/// What is wrong with the data is a mistake of usage, also where a run meets it later.
#[test]
fn a_damaged_line_that_a_run_meets_is_named() {
    let folder = folder();
    let at = folder.path();
    let line = |n: u64| {
        let words: Vec<_> = (0..40).map(|i: u64| format!("w{}", 4 + (i * i + n) % 40)).collect();
        format!("{{\"text\": \"{}\"}}\n", words.join(" "))
    };
    let file = at.join("lines.jsonl");
    let lines: String = (0..200).map(line).collect();
    fs::write(&file, format!("{lines}{{\"text\": 7}}\n")).expect("writes");
    let texts = at.join("texts");
    let data = live(at, "window_bytes = 60000").replace(str(&texts), str(&file));
    let (config, out) = (at.join("run.toml"), at.join("out"));
    let text = run_toml(&data, "").replace("steps = 40", "steps = 400");
    fs::write(&config, text).expect("writes");
    fail(["train", str(&config), "--out", str(&out)], 2, &["lines.jsonl", "line 201"]);
    assert!(!crate::metrics(&out).is_empty(), "it had begun");
}

//! Signals, and two processes that write in one place.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sae_data::OutputLock;

use crate::{fail, metrics, plant, run_toml, softsae, softsae_program, str, succeed};

/// Starts `softsae` in the background.
pub(crate) fn start(args: &[&str]) -> Child {
    let mut command = Command::new(softsae_program());
    command.args(args).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("softsae starts")
}

/// Waits until `happened`, which must be before the child ends.
pub(crate) fn wait_until(child: &mut Child, happened: impl Fn() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(child.try_wait().expect("a child").is_none(), "ended too soon");
        assert!(started.elapsed() < Duration::from_secs(120), "nothing happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Lines of a run's metrics log.
pub(crate) fn n_lines(out: &Path) -> usize {
    let log = fs::read(out.join("metrics.jsonl")).unwrap_or_default();
    log.iter().filter(|byte| **byte == b'\n').count()
}

/// Sends a signal to a child that is still there.
pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill starts");
    assert!(sent.success(), "kill -s {name} failed");
}

fn signalled(child: Child, name: &str) -> Output {
    signal(&child, name);
    child.wait_with_output().expect("ended")
}

#[test]
fn a_signal_saves_the_training_and_exits_with_130() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (store, config, whole, out) = (at("store"), at("run.toml"), at("whole"), at("out"));
    plant(&store, 2000, 16);
    let soft = "name = \"soft\"\nk = 3\nhard_steps = 100";
    let text = run_toml(&store, soft, 600).replace("log_every = 5", "log_every = 1");
    fs::write(&config, text + "checkpoint_every = 0\n").expect("writes");
    let args = |out| ["train", str(&config), "--out", out, "--resume", "--threads", "1"];
    succeed(args(str(&whole)));
    // A scheduler and the program that started this one may pass the same request on.
    for (names, n_more) in [(&["INT"][..], 5), (&["TERM"], 55), (&["TERM", "INT"], 20)] {
        // A training of before may have come far: only new lines tell that this one is at work.
        let n_before = n_lines(&out);
        let mut child = start(&args(str(&out)));
        wait_until(&mut child, || n_lines(&out) > n_before + n_more);
        names.iter().for_each(|name| signal(&child, name));
        let output = child.wait_with_output().expect("ended");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{names:?}: {stderr}");
        assert!(stderr.contains("interrupted after"), "{stderr}");
        let states = fs::read_dir(out.join("training")).expect("states");
        assert!(states.count() >= 1, "{names:?} left no state");
        assert!(!out.join("checkpoint").exists());
    }
    succeed(args(str(&out)));
    let weights = |run: &Path| fs::read(run.join("checkpoint/sae.safetensors")).expect("weights");
    assert!(weights(&whole) == weights(&out), "resumed weights differ");
    assert_eq!(metrics(&whole), metrics(&out));
}

#[test]
fn a_job_that_cannot_go_on_ends_at_once_and_leaves_nothing_that_reads_as_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let config = at("planted.toml");
    fs::write(&config, "[planted]\nn_rows = 3000000\nd_model = 64\n").expect("writes");
    for name in ["INT", "TERM"] {
        let store = at(name);
        let mut child = start(&["plant", str(&config), "--out", str(&store)]);
        wait_until(&mut child, || store.join("manifest.json").exists());
        let output = signalled(child, name);
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        fail(["inspect", str(&store)], 2, &["expected a finished store"]);
    }
}

#[test]
fn a_second_process_in_one_place_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (store, config, out) = (at("store"), at("run.toml"), at("out"));
    plant(&store, 500, 16);
    fs::write(&config, run_toml(&store, "name = \"topk\"\nk = 3", 1_000_000)).expect("writes");
    let args = ["train", str(&config), "--out", str(&out), "--threads", "1"];
    let mut first = start(&args);
    wait_until(&mut first, || n_lines(&out) > 0);
    let refused = &["expected no other writer", str(&out)];
    fail(args, 2, refused);
    fail(args.into_iter().chain(["--resume"]), 2, refused);
    assert!(first.try_wait().expect("a child").is_none(), "the first run goes on");
    first.kill().expect("killed");
    first.wait().expect("ended");

    fs::write(&config, run_toml(&store, "name = \"topk\"\nk = 3", 10)).expect("writes");
    let done = at("done");
    succeed(["train", str(&config), "--out", str(&done), "--threads", "1"]);
    let (checkpoint, codes, json) = (done.join("checkpoint"), at("codes"), at("eval.json"));
    let encode = ["encode", str(&checkpoint), "--data", str(&store), "--out", str(&codes)];
    let eval = ["eval", str(&checkpoint), "--data", str(&store), "--out", str(&json)];
    let held = (OutputLock::directory(&codes), OutputLock::file(&json));
    assert!(held.0.is_ok() && held.1.is_ok());
    fail(encode, 2, &["expected no other writer", str(&codes)]);
    fail(eval, 2, &["expected no other writer", str(&json)]);
    drop(held);
    succeed(encode);
    succeed(eval);
    assert!(softsae(["inspect", str(&store)]).status.success(), "reading needs no lock");
}

#[test]
fn a_reader_that_goes_is_no_failure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (store, config, out) = (at("store"), at("run.toml"), at("out"));
    plant(&store, 500, 16);
    fs::write(&config, run_toml(&store, "name = \"topk\"\nk = 3", 10)).expect("writes");
    let alone = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(softsae_program());
        command.args(args).stdout(writer.try_clone().expect("another end")).stderr(writer);
        assert!(command.status().expect("softsae starts").success(), "{args:?}");
    };
    alone(&["train", str(&config), "--out", str(&out), "--profile"]);
    alone(&["inspect", str(&store)]);
    alone(&["eval", str(&out.join("checkpoint")), "--data", str(&store)]);
}

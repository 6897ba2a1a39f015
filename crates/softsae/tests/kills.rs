//! `kill -9` at random moments of a training: resumed, it ends as if nothing had happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{metrics, plant, softsae_program, str, succeed};

/// Kills of each engine.
const N_KILLS: usize = 20;

const TOPK: &str = "name = 'topk', k = 6, k_anneal_steps = 30, auxk = { dead_after_rows = 512 }";

const SOFT: &str = "name = 'soft', k = 6, k_anneal_steps = 30, alpha_anneal_steps = 30, \
                    hard_steps = 30, auxk = { dead_after_rows = 512 }";

/// A run that writes a line at each step and a state at every third.
fn run_toml(store: &Path, engine: &str, architecture: &str) -> String {
    format!(
        "data.store = {store:?}\nsae.n_features = 384\narchitecture = {{ {architecture} }}\n\
         [training]\nsteps = 90\nbatch_size = 128\nlr = 1e-3\nlog_every = 1\n\
         checkpoint_every = 3\nengine = '{engine}'\n"
    )
}

fn start(config: &Path, out: &Path) -> Child {
    let mut command = Command::new(softsae_program());
    command.args(["train", str(config), "--out", str(out), "--resume", "--threads", "1"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("softsae starts")
}

/// What the folder of a run shows that the clock does not decide.
type Outcome = (BTreeMap<PathBuf, Vec<u8>>, Vec<serde_json::Value>, Vec<(i64, String, f32)>);

fn outcome(out: &Path) -> Outcome {
    let entries = fs::read_dir(out.join("checkpoint")).expect("a checkpoint");
    let files = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        (path.file_name().expect("a name").into(), fs::read(&path).expect("reads"))
    });
    (files.collect(), metrics(out), events(out))
}

/// The event file: step, tag and value of each number but those of the clock.
fn events(out: &Path) -> Vec<(i64, String, f32)> {
    use tfrecord::protobuf::{event::What, summary::value::Value};
    let path = out.join("events.out.tfevents.softsae");
    let records = tfrecord::EventIter::open(path, tfrecord::RecordReaderConfig::default());
    let mut all = Vec::new();
    for event in records.expect("the event file") {
        let event = event.expect("a whole event");
        let Some(What::Summary(summary)) = event.what else { continue };
        for value in summary.value {
            let Some(Value::SimpleValue(number)) = value.value else { panic!("{value:?}") };
            if value.tag != "rows_per_second" {
                all.push((event.step, value.tag, number));
            }
        }
    }
    all
}

/// What a kill found.
#[derive(Debug, Default)]
struct Found {
    before_the_first_state: usize,
    while_a_state_was_written: usize,
    between_states: usize,
}

fn killed_at_random_moments(engine: &str, architecture: &str, mut random: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (store, config, whole) = (at("store"), at("run.toml"), at("whole"));
    plant(&store, 2000, 32);
    fs::write(&config, run_toml(&store, engine, architecture)).expect("writes");
    let started = Instant::now();
    succeed(["train", str(&config), "--out", str(&whole), "--threads", "1"]);
    let mut longest = started.elapsed();
    let expected = outcome(&whole);
    assert_eq!(expected.1.len(), 90);

    let (mut kills, mut finished, mut found) = (0, 0, Found::default());
    while kills < N_KILLS {
        let out = at(&format!("run-{finished}"));
        let (is_new, started) = (!out.exists(), Instant::now());
        let mut child = start(&config, &out);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        let moment = longest.mul_f64((random >> 40) as f64 / f64::from(1 << 24));
        while started.elapsed() < moment && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if is_new && child.try_wait().expect("a child").is_some() {
            // Other work on the machine has made way: kills come sooner from now on.
            longest = started.elapsed();
        }
        child.kill().expect("killed, or ended before");
        let output = child.wait_with_output().expect("ended");
        if output.status.success() {
            assert!(outcome(&out) == expected, "run {finished} differs after {kills} kills");
            finished += 1;
            continue;
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), None, "failed by itself: {stderr}");
        kills += 1;
        match states(&out) {
            (0, false) => found.before_the_first_state += 1,
            (_, true) => found.while_a_state_was_written += 1,
            _ => found.between_states += 1,
        }
    }
    let out = at(&format!("run-{finished}"));
    succeed(["train", str(&config), "--out", str(&out), "--resume", "--threads", "1"]);
    assert!(outcome(&out) == expected, "the last run differs after {kills} kills: {found:?}");
    println!("{engine}: {kills} kills, {} runs, {found:?}", finished + 1);
    assert!(found.between_states + found.while_a_state_was_written > 2, "{found:?}");

    let mut left: Vec<_> =
        fs::read_dir(&out).expect("reads").map(|e| e.expect("an entry").file_name()).collect();
    left.sort();
    let mut wanted = vec!["checkpoint", "events.out.tfevents.softsae", "metrics.jsonl", "run.toml"];
    wanted.push("timing.json");
    // The state that a longer run goes on from, if one was written before the rate fell.
    wanted.extend(left.iter().any(|name| name == "training").then_some("training"));
    assert!(states(&out).0 <= 1 && !states(&out).1, "one whole state at most");
    assert_eq!(left, wanted, "nothing but the results is left");
}

/// Whole states of a training, and whether one was half-written.
fn states(out: &Path) -> (usize, bool) {
    let entries = fs::read_dir(out.join("training")).into_iter().flatten();
    let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
    let (partial, whole): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with(".partial"));
    (whole.len(), !partial.is_empty())
}

#[test]
fn the_reference_engine_resumes_to_the_same_bits() {
    killed_at_random_moments("reference", TOPK, 1);
}

#[test]
fn the_fast_engine_resumes_to_the_same_bits() {
    killed_at_random_moments("fast", SOFT, 2);
}

/// A harvest, too: what was killed goes on, and is the same store.
#[test]
fn a_killed_harvest_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (text, whole, killed) = (at("text.txt"), at("whole"), at("killed"));
    fs::write(&text, "It was the best of times, it was the worst of times. ".repeat(60))
        .expect("writes");
    let host = crate::smollm2();
    let args = |out: &Path| {
        let from = ["harvest", "--host", str(&host), "--text", str(&text), "--out", str(out)];
        let more = ["--hook", "attn_out.0", "--context-length", "8"];
        from.into_iter().chain(more).map(str::to_owned).collect::<Vec<_>>()
    };
    let started = Instant::now();
    succeed(args(&whole).iter().map(String::as_str));
    let took = started.elapsed();
    for part in [0.5, 0.7, 0.9] {
        let mut child = Command::new(softsae_program())
            .args(args(&killed))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("softsae starts");
        std::thread::sleep(Duration::mul_f64(took, part));
        child.kill().expect("killed, or ended before");
        child.wait().expect("ended");
    }
    if !succeeds_as_finished(&killed) {
        succeed(args(&killed).iter().map(String::as_str));
    }
    for name in ["manifest.json", "shard-00000.safetensors"] {
        let read = |store: &Path| fs::read(store.join(name)).expect("reads");
        assert!(read(&whole) == read(&killed), "{name} differs");
    }
}

/// Whether a store is finished: the last kill may have come too late.
fn succeeds_as_finished(store: &Path) -> bool {
    crate::softsae(["inspect", str(store)]).status.success()
}

//! The command line as a user meets it: real weights, real text, exit codes and messages.

mod bad_input;
mod compare;
mod corpora;
mod disks;
mod end_to_end;
mod faults;
mod features;
mod interop;
mod kills;
mod labels;
mod live;
mod memory;
mod pictures;
mod places;
mod planted;
mod presets;
mod replaced;
mod resumed;
mod signals;
mod signs;
mod steer;
mod stores;
mod streams;
mod suites;
mod threads;
mod transcoders;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program under test.
fn softsae_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_softsae"))
}

/// Runs `softsae` with `args`.
fn softsae<'a>(args: impl IntoIterator<Item = &'a str>) -> Output {
    Command::new(softsae_program()).args(args).output().expect("softsae starts")
}

/// Runs `softsae`, which must succeed, and gives back what it printed.
fn succeed<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    let output = softsae(args);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{:?}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Runs `softsae`, which must fail with `code` and name all of `words` in its message.
fn fail<'a>(args: impl IntoIterator<Item = &'a str>, code: i32, words: &[&str]) {
    let output = softsae(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "expected {word:?} in: {stderr}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The host model that `cargo xtask test` fetches.
fn smollm2() -> PathBuf {
    let path = std::env::var_os("SOFTSAE_SMOLLM2");
    path.expect("SOFTSAE_SMOLLM2 names the SmolLM2 file; `cargo xtask test` fetches it").into()
}

fn str(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// A run configuration over `store`, with `extra` lines in its `[architecture]`.
fn run_toml(store: &Path, architecture: &str, steps: u64) -> String {
    let store = toml::Value::from(str(store));
    format!(
        "[data]\nstore = {store}\n\n[sae]\nn_features = 256\n\n[architecture]\n{architecture}\n\n\
         [training]\nsteps = {steps}\nbatch_size = 64\nlr = 1e-3\nlog_every = 5\n"
    )
}

/// Writes a store of planted features.
fn plant(store: &Path, n_rows: u64, d_model: usize) {
    let config = store.with_extension("toml");
    let text = format!(
        "[planted]\nn_rows = {n_rows}\nd_model = {d_model}\nn_features = {}\nk_max = 5\n",
        2 * d_model
    );
    std::fs::write(&config, text).expect("writes");
    succeed(["plant", str(&config), "--out", str(store)]);
}

/// The lines of a run's metrics log without what the clock says.
fn metrics(out: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        line.as_object_mut().and_then(|line| line.remove("rows_per_second")).expect("a rate");
        line
    };
    text.lines().map(line).collect()
}

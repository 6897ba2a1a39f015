//! The command line as a user meets it: real weights, real text, exit codes and messages.

mod bad_input;
mod end_to_end;
mod memory;
mod planted;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `softsae` with `args`.
fn softsae<'a>(args: impl IntoIterator<Item = &'a str>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_softsae")).args(args).output().expect("softsae starts")
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

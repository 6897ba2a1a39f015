//! Starting other programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace::Workspace;

/// `cargo`, at the root of the workspace, with the workspace's libtorch.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace.root());
    // What setup checked, also where LIBTORCH named it: then it is a link to that.
    command.env("LIBTORCH", workspace.target().join("libtorch"));
    command
}

/// Runs a command to its end; `what` names the work in the error.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| start_error(command.get_program()))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

/// Runs a command to its end and gives back what it printed.
pub(crate) fn output(command: &mut Command, what: &str) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| start_error(command.get_program()))?;
    if !output.status.success() {
        bail!("{what} failed ({})", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{what}: output is not UTF-8"))
}

/// Builds a binary in release mode and gives its path.
pub(crate) fn build(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let mut command = cargo(workspace);
    command.args(["build", "--release", "--package", package, "--bin", package]);
    command.arg("--message-format=json-render-diagnostics");
    let messages = output(&mut command, &format!("building {package}"))?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == package)
        .find_map(|message| Some(Path::new(message["executable"].as_str()?).to_owned()))
        .with_context(|| format!("cargo built no binary `{package}`"))
}

fn start_error(program: &OsStr) -> String {
    format!("cannot start `{}`", program.display())
}

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
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_another_package) {
            command.env_remove(name);
        }
    }
    command.current_dir(workspace.root());
    // What setup checked, also where LIBTORCH named it: then it is a link to that.
    command.env("LIBTORCH", workspace.target().join("libtorch"));
    command
}

/// Whether cargo has set this variable for the package that it runs, this one. Build scripts compare
/// such variables with those of their last build, and would build anew.
fn is_of_another_package(variable: &str) -> bool {
    const SINGLE: [&str; 5] = [
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
    ];
    const FAMILIES: [&str; 4] = ["CARGO_BIN_EXE_", "CARGO_CFG_", "CARGO_MANIFEST_", "CARGO_PKG_"];
    SINGLE.contains(&variable) || FAMILIES.iter().any(|family| variable.starts_with(family))
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

/// Builds a binary in release mode, unless it is there in a bundle, and gives its path.
pub(crate) fn build(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    if workspace.is_bundle() {
        return Ok(workspace.root().join("bin").join(package));
    }
    let selection = ["build", "--release", "--package", package, "--bin", package];
    let built = executables(workspace, &selection, &format!("building {package}"))?;
    let own = built.into_iter().find(|program| program.name == package);
    own.map(|program| program.path).with_context(|| format!("cargo built no binary `{package}`"))
}

/// Builds the benches.
pub(crate) fn build_benches(workspace: &Workspace) -> Result<Vec<Executable>> {
    let selection = ["bench", "--no-run", "--package", "benches", "--benches"];
    let built = executables(workspace, &selection, "building the benches")?;
    // The library of the package counts as a bench without any.
    Ok(built.into_iter().filter(|program| program.name != "benches").collect())
}

/// A program that cargo made.
#[derive(Debug)]
pub(crate) struct Executable {
    /// The package, whose folder has its name.
    pub(crate) package: String,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Runs cargo and gives the programs that it made.
pub(crate) fn executables(
    workspace: &Workspace,
    selection: &[&str],
    what: &str,
) -> Result<Vec<Executable>> {
    let mut command = cargo(workspace);
    command.args(selection).arg("--message-format=json-render-diagnostics");
    let messages = output(&mut command, what)?;
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let manifest = Path::new(message["manifest_path"].as_str()?);
        Some(Executable {
            package: manifest.parent()?.file_name()?.to_str()?.to_owned(),
            name: message["target"]["name"].as_str()?.to_owned(),
            path: message["executable"].as_str()?.into(),
        })
    };
    Ok(messages.lines().filter_map(program).collect())
}

fn start_error(program: &OsStr) -> String {
    format!("cannot start `{}`", program.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_does_not_inherit_what_it_set_for_this_package() {
        // Cargo sets them for the tests as well.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let command = cargo(&Workspace::at(std::path::Path::new("/none")));
        let removed: Vec<_> =
            command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR", "CARGO_MANIFEST_DIR"] {
            assert!(removed.contains(&OsStr::new(name)), "{name} in {removed:?}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_JOBS", "CARGO", "PATH"] {
            assert!(!is_of_another_package(name), "{name}");
        }
    }
}

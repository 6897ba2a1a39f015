//! Proof that a libtorch compiles, links and runs: a small C++ program.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::Device;
use super::tree::Tree;
use crate::exit::note;

/// Multiplies two matrices; ends with 0 if the product is right.
const SOURCE: &str = include_str!("probe.cpp");

/// Compiles and runs the probe against `tree`, in `folder`.
pub(super) fn run(tree: &Tree, folder: &Path) -> Result<()> {
    note("libtorch: checking that it links and runs");
    let folder = tempfile::tempdir_in(folder)?;
    let (source, program) = (folder.path().join("probe.cpp"), folder.path().join("probe"));
    std::fs::write(&source, SOURCE)?;
    let lib = tree.root().join("lib");
    let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
    rpath.push(&lib);

    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    let mut command = Command::new(&compiler);
    command.arg("-std=c++17").arg("-w").arg(&source).arg("-o").arg(&program);
    command.arg("-isystem").arg(tree.root().join("include"));
    command.arg("-L").arg(&lib).arg(rpath);
    command.args(["-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]);
    if tree.device() == Device::Cuda {
        command.args(["-ltorch_cuda", "-lc10_cuda"]);
    }
    let compiled = match command.stdin(Stdio::null()).output() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            bail!(
                "no C++ compiler `{}`; install one (`apt-get install g++`) or set CXX",
                compiler.display()
            );
        }
        other => other.with_context(|| format!("cannot start `{}`", compiler.display()))?,
    };
    if !compiled.status.success() {
        let said = String::from_utf8_lossy(&compiled.stderr);
        bail!("a program against libtorch does not compile or link:\n{}", said.trim());
    }
    // The loader must find libtorch by the path in the program alone.
    let ran = Command::new(&program).env_remove("LD_LIBRARY_PATH").output()?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        bail!("a program with libtorch does not run ({}): {}", ran.status, said.trim());
    }
    Ok(())
}

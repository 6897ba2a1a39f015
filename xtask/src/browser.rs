//! What tests of pages in a browser need: Chromium, and axe-core that looks for what bars readers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::exit::{message, note};
use crate::workspace::Workspace;
use crate::{process, wheel};

/// Where Debian's `chromium` and others put it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The package, and the SHA-256 of its `axe.min.js`.
const AXE: (&str, &str) =
    ("axe-core@4.10.3", "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb");

/// Installs Chromium where Debian's apt is there for root, and fetches axe-core where npm is; gives
/// the script of the latter. What cannot be had is said: its tests are skipped.
pub(crate) fn prepare(workspace: &Workspace) -> Option<PathBuf> {
    if !BROWSERS.iter().any(|name| is_there(name))
        && let Err(error) = install_chromium()
    {
        note(&format!("tests in a browser are skipped: {}", message(&error)));
        return None;
    }
    let axe = fetch_axe(workspace);
    axe.inspect_err(|e| note(&format!("axe-core is skipped: {}", message(e)))).ok()
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).exists())
}

fn install_chromium() -> Result<()> {
    if !is_there("apt-get") || !rustix::process::geteuid().is_root() {
        anyhow::bail!(
            "expected one of {BROWSERS:?} (Debian: `apt-get install chromium`), found none"
        );
    }
    note("installing chromium");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        process::run(&mut command, "apt-get")
    };
    let install = ["install", "--yes", "--no-install-recommends", "chromium"];
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

/// Fetches axe-core into `target/assets`, unless it is there.
fn fetch_axe(workspace: &Workspace) -> Result<PathBuf> {
    let (package, sha256) = AXE;
    let folder = workspace.target().join("assets").join(package.replace('@', "-"));
    let path = folder.join("axe.min.js");
    if path.exists() && wheel::check_hash(&path, sha256).is_ok() {
        return Ok(path);
    }
    note(&format!("fetching {package}"));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let scratch = tempfile::tempdir_in(&folder)?;
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", package, "--pack-destination"]).arg(scratch.path());
    let name = process::output(&mut npm, "npm pack")?;
    let archive = scratch.path().join(name.trim());
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(scratch.path()).arg("package/axe.min.js");
    process::run(&mut tar, "tar")?;
    place(&scratch.path().join("package/axe.min.js"), &path, sha256)?;
    Ok(path)
}

/// Moves a file to its place if it is the expected one.
fn place(from: &Path, to: &Path, sha256: &str) -> Result<()> {
    wheel::check_hash(from, sha256)?;
    std::fs::rename(from, to).with_context(|| to.display().to_string())
}

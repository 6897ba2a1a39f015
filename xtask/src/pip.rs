//! pip as a downloader of pinned wheels.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::wheel;

/// A file of the package index, pinned by version and hash.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// Package and version as pip takes them.
    pub(crate) requirement: &'static str,
    /// SHA-256 of the wheel.
    pub(crate) sha256: &'static str,
}

/// The platform that wheels are asked for, whatever Python runs pip.
const PLATFORM: [&str; 9] = [
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=3.11",
    "--abi=cp311",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_25_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
    "--platform=linux_x86_64",
];

/// A Python that has pip.
#[derive(Debug)]
pub(crate) struct Pip {
    python: PathBuf,
}

impl Pip {
    /// The first of `python3` and `python` that has pip.
    pub(crate) fn find() -> Result<Self> {
        ["python3", "python"].iter().find_map(|name| Self::with(name).ok()).ok_or_else(|| {
            anyhow!(
                "expected python3 with pip, found none; install it \
                 (`apt-get install python3-pip`, or `python3 -m ensurepip`)"
            )
        })
    }

    /// This Python, if it has pip.
    pub(crate) fn with(python: impl Into<PathBuf>) -> Result<Self> {
        let pip = Self { python: python.into() };
        let mut command = pip.command();
        let status = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => Ok(pip),
            _ => bail!("`{} -m pip` does not run", pip.python.display()),
        }
    }

    /// Downloads one wheel into `folder` and checks its hash.
    pub(crate) fn download(&self, pin: &Pin, folder: &Path) -> Result<PathBuf> {
        let mut command = self.command();
        command.args(["download", "--no-deps"]).args(PLATFORM);
        self.download_one(command, pin, folder)
    }

    fn download_one(&self, mut command: Command, pin: &Pin, folder: &Path) -> Result<PathBuf> {
        let dest = tempfile::tempdir_in(folder)?.keep();
        run(command.arg("--dest").arg(&dest).arg(pin.requirement), pin.requirement)?;
        let mut files = std::fs::read_dir(&dest)?.collect::<std::io::Result<Vec<_>>>()?;
        let wheel = match files.pop() {
            Some(file) if files.is_empty() => file.path(),
            _ => bail!("pip download {}: expected one file in {}", pin.requirement, dest.display()),
        };
        wheel::check_hash(&wheel, pin.sha256)
            .with_context(|| format!("pip download {}", pin.requirement))?;
        Ok(wheel)
    }

    /// Downloads the sources of a package into `folder` and checks their hash.
    pub(crate) fn download_sources(&self, pin: &Pin, folder: &Path) -> Result<PathBuf> {
        let mut command = self.command();
        command.args(["download", "--no-deps", "--no-binary=:all:"]);
        self.download_one(command, pin, folder)
    }

    /// Installs a package with all its dependencies into `folder`.
    pub(crate) fn install(&self, requirement: &str, folder: &Path) -> Result<()> {
        let mut command = self.command();
        command.args(["install", "--no-compile", "--no-warn-conflicts"]).args(PLATFORM);
        run(command.arg("--target").arg(folder).arg(requirement), requirement)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
        command.stdin(Stdio::null());
        command
    }
}

/// Runs pip, passing on what it prints; a failure names what to do about it.
fn run(command: &mut Command, requirement: &str) -> Result<()> {
    // Standard output is for results; pip's talk goes where progress goes.
    let talk = std::io::stderr().as_fd().try_clone_to_owned()?;
    command.stdout(talk).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start python3")?;
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stderr.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        std::io::stderr().write_all(&buffer[..n])?;
        said.extend_from_slice(&buffer[..n]);
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    bail!("pip cannot get {requirement} ({status}): {}", remedy(&String::from_utf8_lossy(&said)));
}

/// What to do about a failure of pip, from what it said.
fn remedy(said: &str) -> String {
    let any = |marks: &[&str]| marks.iter().any(|mark| said.contains(mark));
    if any(&["No space left on device", "Disk quota exceeded"]) {
        "the disk is full; free space under target/ and in the temporary folder (TMPDIR)".into()
    } else if any(&["Permission denied"]) {
        "a folder cannot be written; check the rights of target/".into()
    } else if any(&[
        "NewConnectionError",
        "ConnectionError",
        "Connection refused",
        "Connection reset",
        "Connection aborted",
        "Max retries exceeded",
        "Name or service not known",
        "Temporary failure in name resolution",
        "timed out",
        "Network is unreachable",
        "ProxyError",
    ]) {
        "the package index cannot be reached; check the network, the proxy and pip's configuration"
            .into()
    } else if let Some((_, missing)) = said.split_once("No matching distribution found for ") {
        let missing = missing.lines().next().unwrap_or_default().trim();
        format!(
            "the package index does not offer {missing}; check pip's configuration \
             (`pip config list`)"
        )
    } else {
        "see its message above".into()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const PIN: Pin = Pin { requirement: "thing==1", sha256: "00" };

    /// A Python whose pip answers `--version` and then does as `script` says.
    ///
    /// A shell writes it: were it open for writing here, a child that another test starts at that
    /// moment would hold it open too, and a program that is open for writing does not start.
    pub(crate) fn fake_python(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("python");
        let text = format!("#!/bin/sh\ncase \"$*\" in *--version*) exit 0;; esac\n{script}\n");
        let mut shell = Command::new("sh");
        shell.args(["-c", "printf %s \"$2\" > \"$1\" && chmod +x \"$1\"", "sh"]);
        assert!(shell.arg(&path).arg(text).status().unwrap().success());
        path
    }

    fn download(script: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let pip = Pip::with(fake_python(folder.path(), script)).unwrap();
        format!("{:#}", pip.download(&PIN, folder.path()).unwrap_err())
    }

    #[test]
    fn failures_name_the_remedy() {
        let full = download("echo 'OSError: [Errno 28] No space left on device' >&2; exit 1");
        assert!(full.contains("thing==1") && full.contains("the disk is full"), "{full}");
        let offline = download("echo 'WARNING: NewConnectionError' >&2; exit 1");
        assert!(offline.contains("check the network"), "{offline}");
        let unknown =
            "echo 'ERROR: No matching distribution found for x-cudnn==9 (from torch)' >&2";
        let unknown = download(&format!("{unknown}; echo 'Connection: close' >&2; exit 1"));
        assert!(unknown.contains("does not offer x-cudnn==9 (from torch); check pip"), "{unknown}");
        assert!(download("exit 3").contains("exit status: 3"));
    }

    #[test]
    fn a_wheel_that_is_not_the_pinned_one_is_refused() {
        let dest = "while [ \"$1\" != --dest ]; do shift; done";
        let other = download(&format!("{dest}; echo other > \"$2/thing.whl\""));
        assert!(other.contains("expected sha256 00, got "), "{other}");
        assert!(download(dest).contains("expected one file"));
    }

    #[test]
    fn a_python_without_pip_is_refused() {
        assert!(Pip::with("/bin/false").is_err());
        assert!(Pip::with("/no/such/python").is_err());
    }
}

//! The releases of libtorch that are supported, each with the `tch` that is made for it.

use anyhow::{Context as _, Result};

use crate::exit::{note, usage};
use crate::pip::Pin;
use crate::process;
use crate::workspace::Workspace;

/// A release of libtorch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// Its version, as torch has it.
    pub(crate) version: &'static str,
    /// The version of tch and torch-sys whose C++ glue compiles against it.
    tch: &'static str,
    /// The wheel with its headers and libraries.
    pub(super) wheel: Pin,
}

/// The oldest first.
const RELEASES: [Release; 3] = [
    Release {
        version: "2.11.0",
        tch: "0.24.0",
        wheel: Pin {
            requirement: "torch==2.11.0",
            sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        },
    },
    Release {
        version: "2.12.0",
        tch: "0.25.0",
        wheel: Pin {
            requirement: "torch==2.12.0",
            sha256: "415c1b8d0412f67551c8e89a2daca0fb3e56694af0281ba155eaa9da481f58b4",
        },
    },
    Release {
        version: "2.13.0",
        tch: "0.26.0",
        wheel: Pin {
            requirement: "torch==2.13.0",
            sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
        },
    },
];

impl Release {
    /// The newest one, which is fetched by default.
    pub(crate) fn newest() -> &'static Self {
        &RELEASES[RELEASES.len() - 1]
    }

    /// The release of a version such as `2.11`, `2.11.0` or `2.11.0+cu130`.
    pub(crate) fn find(version: &str) -> Option<&'static Self> {
        let plain = version.split('+').next().unwrap_or_default();
        let short = |release: &Self| release.version.rsplit_once('.').map(|(short, _)| short);
        RELEASES.iter().find(|release| release.version == plain || short(release) == Some(plain))
    }

    /// All versions, for messages.
    pub(crate) fn versions() -> String {
        RELEASES.map(|release| release.version).join(", ")
    }

    /// Makes the lock file of a workspace name the tch of this release.
    pub(crate) fn lock(&self, workspace: &Workspace) -> Result<()> {
        let path = workspace.root().join("Cargo.lock");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        if locked_tch(&text) == Some(self.tch) {
            return Ok(());
        }
        note(&format!("Cargo.lock: tch {} for libtorch {}", self.tch, self.version));
        let mut cargo = process::cargo(workspace);
        cargo.args(["update", "tch", "--precise", self.tch]);
        process::run(&mut cargo, "changing Cargo.lock")
    }
}

/// Parses the value of `--torch`.
pub(crate) fn parse(version: &str) -> Result<&'static Release> {
    let unknown = || usage(format!("--torch: expected {}, got {version}", Release::versions()));
    Release::find(version).ok_or_else(unknown)
}

/// The version of tch in a lock file.
fn locked_tch(lock: &str) -> Option<&str> {
    let (_, after) = lock.split_once("name = \"tch\"\nversion = \"")?;
    after.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_with_and_without_their_build() {
        for release in &RELEASES {
            for version in [release.version.to_owned(), format!("{}+cu130", release.version)] {
                assert_eq!(Release::find(&version), Some(release));
            }
        }
        assert_eq!(parse("2.11").unwrap().tch, "0.24.0");
        assert_eq!(Release::newest().version, "2.13.0");
        for version in ["2.10.0", "2.13.1", "2", ""] {
            let error = parse(version).unwrap_err().to_string();
            assert!(error.contains("2.11.0, 2.12.0, 2.13.0, got"), "{error}");
        }
    }

    #[test]
    fn the_lock_file_of_this_workspace_names_a_supported_tch() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(path).unwrap();
        let tch = locked_tch(&lock).unwrap();
        assert!(RELEASES.iter().any(|release| release.tch == tch), "{tch}");
    }
}

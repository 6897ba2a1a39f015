//! What stands for files and folders in the ids of runs: their content, wherever they lie.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sae_data::file_hash;
use sha2::{Digest as _, Sha256};

use crate::exit::usage;
use crate::workspace::Workspace;

/// Hashes of files and folders, each read once until it changes.
pub(super) struct Contents {
    /// Folder in which hashes are kept.
    kept: PathBuf,
    known: RefCell<BTreeMap<PathBuf, String>>,
}

impl Contents {
    pub(super) fn new(workspace: &Workspace) -> Self {
        Self::at(workspace.target().join("hashes"))
    }

    /// Those that are kept in this folder.
    pub(super) fn at(kept: PathBuf) -> Self {
        Self { kept, known: RefCell::default() }
    }

    /// The folder in which hashes are kept.
    pub(super) fn kept(&self) -> &Path {
        &self.kept
    }

    /// The files and folders that were read, with their hashes.
    pub(super) fn known(&self) -> BTreeMap<PathBuf, String> {
        self.known.borrow().clone()
    }

    /// The hash of a file; `key` names it in errors.
    pub(super) fn file(&self, key: &str, path: &Path) -> Result<String> {
        if let Some(known) = self.known.borrow().get(path) {
            return Ok(known.clone());
        }
        let hash = file_hash(path, &self.kept).map_err(|e| usage(format!("{key}: {e}")))?;
        self.known.borrow_mut().insert(path.to_owned(), hash.clone());
        Ok(hash)
    }

    /// The hash of a file, or of the names and contents of the files in a folder, those that are
    /// hidden left out.
    pub(super) fn tree(&self, key: &str, path: &Path) -> Result<String> {
        if !path.is_dir() {
            return self.file(key, path);
        }
        if let Some(known) = self.known.borrow().get(path) {
            return Ok(known.clone());
        }
        let files = files(path).map_err(|e| usage(format!("{key}: {}: {e}", path.display())))?;
        let mut lines = Vec::new();
        for (name, file) in files {
            lines.push(format!("{name} {}", self.file(key, &file)?));
        }
        let hash = short_hash(&lines.join("\n"));
        self.known.borrow_mut().insert(path.to_owned(), hash.clone());
        Ok(hash)
    }
}

/// The files below a folder that are not hidden, each with its name from there, in order.
pub(super) fn files(root: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let (mut left, mut seen) = (vec![(String::new(), root.to_owned())], BTreeSet::new());
    while let Some((prefix, folder)) = left.pop() {
        // A link may lead back.
        if !seen.insert(folder.canonicalize()?) {
            continue;
        }
        for entry in folder.read_dir()? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                left.push((name + "/", path));
            } else {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

/// The start of a hash of a text.
pub(super) fn short_hash(text: &str) -> String {
    Sha256::digest(text)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_its_names_and_contents() {
        let folder = tempfile::tempdir().unwrap();
        let hash = |name: &str| {
            let workspace = Workspace::at(folder.path());
            Contents::new(&workspace).tree("host.path", &folder.path().join(name)).unwrap()
        };
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("a/config.json", "{}");
        write("a/sub/weights", "123");
        let before = hash("a");
        write("a/.cache", "hidden");
        std::os::unix::fs::symlink("..", folder.path().join("a/sub/loop")).unwrap();
        assert_eq!(hash("a"), before);
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert_eq!(hash("b"), before, "moved");
        write("b/sub/weights", "321");
        let after = hash("b");
        assert_ne!(after, before);
        write("b/more", "");
        assert_ne!(hash("b"), after);
        assert_ne!(hash("b/more"), hash("b/config.json"));
        let contents = Contents::new(&Workspace::at(folder.path()));
        let message = contents.tree("host.path", Path::new("none")).unwrap_err().to_string();
        assert!(message.starts_with("host.path: none: "), "{message}");
        let message = contents.file("texts.train", &folder.path().join("b")).unwrap_err();
        assert!(message.to_string().contains("expected a file, got a directory"), "{message}");
    }
}

//! A folder that appears whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A folder that is written under another name.
#[derive(Debug)]
pub(super) struct Staged {
    folder: PathBuf,
    partial: PathBuf,
}

impl Staged {
    /// Begins the folder `name` in `parent`, which must be empty or not be there. What a killed
    /// process has left is removed.
    pub(super) fn create(parent: &Path, name: &str) -> Result<Self> {
        let (folder, partial) = (parent.join(name), parent.join(format!(".{name}.partial")));
        if folder.exists() && (!folder.is_dir() || has_entries(&folder)?) {
            return Err(Error::Export {
                what: "--out",
                expected: "a place that is free",
                got: format!("{}, which has files", folder.display()),
            });
        }
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(io(&partial))?;
        }
        fs::create_dir_all(&partial).map_err(io(&partial))?;
        Ok(Self { folder, partial })
    }

    /// Writes a file, which may lie in a folder.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.partial.join(name);
        let parent = path.parent().unwrap_or(&self.partial);
        fs::create_dir_all(parent).map_err(io(parent))?;
        fs::write(&path, bytes).map_err(io(&path))
    }

    /// Puts the folder in its place.
    pub(super) fn finish(self) -> Result<PathBuf> {
        let sync = |folder: File| rustix::fs::syncfs(folder).map_err(std::io::Error::from);
        File::open(&self.partial).and_then(sync).map_err(io(&self.partial))?;
        fs::rename(&self.partial, &self.folder).map_err(io(&self.folder))?;
        Ok(self.folder)
    }
}

fn has_entries(folder: &Path) -> Result<bool> {
    Ok(fs::read_dir(folder).map_err(io(folder))?.next().is_some())
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error {
    |source| Error::Io { path: path.to_owned(), source }
}

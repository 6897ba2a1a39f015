//! What the runs of a sweep read, and the content that their ids stand for: it may not change while
//! they run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context as _, Result};
use sae_data::open_store;
use serde::{Deserialize, Serialize};

use super::content::Contents;
use crate::exit::message;

/// Stores, files and folders, each with its hash when the sweep was planned.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Inputs {
    /// Folder in which hashes of files are kept.
    kept: PathBuf,
    stores: BTreeMap<PathBuf, String>,
    files: BTreeMap<PathBuf, String>,
}

impl Inputs {
    /// The stores, and all files and folders that the plan has read.
    pub(super) fn new<'a>(
        contents: &Contents,
        stores: impl IntoIterator<Item = (&'a Path, String)>,
    ) -> Result<Self> {
        let rooted = |(path, hash): (&Path, String)| {
            let path = absolute(path).with_context(|| path.display().to_string())?;
            anyhow::Ok((path, hash))
        };
        let files = contents.known();
        Ok(Self {
            kept: absolute(contents.kept())?,
            stores: stores.into_iter().map(rooted).collect::<Result<_>>()?,
            files: files
                .iter()
                .map(|(path, hash)| rooted((path.as_path(), hash.clone())))
                .collect::<Result<_>>()?,
        })
    }

    /// What is not as it was, if anything.
    pub(super) fn changed(&self) -> Option<String> {
        let change = |path: &Path, known: &str, now: Result<String>| match now {
            Ok(now) if now == known => None,
            Ok(_) => Some(format!("{} has changed since the sweep was planned", path.display())),
            Err(error) => Some(message(&error)),
        };
        let contents = Contents::at(self.kept.clone());
        let store = |path: &Path| anyhow::Ok(open_store(path)?.content_hash()?);
        let mut stores =
            self.stores.iter().filter_map(|(path, known)| change(path, known, store(path)));
        let mut files = self
            .files
            .iter()
            .filter_map(|(path, known)| change(path, known, contents.tree("input", path)));
        stores.next().or_else(|| files.next())
    }
}

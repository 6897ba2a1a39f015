//! Opening a directory: a native store, or all the stores in it.

use std::path::Path;
use std::sync::Arc;

use crate::concatenation::Concatenation;
use crate::manifest;
use crate::native::NativeStore;
use crate::{ActivationStore, Error, Result, open_store};

/// Opens `path` as a native store, or as the stores in it one after another, by name.
pub(crate) fn open_directory(path: &Path) -> Result<Arc<dyn ActivationStore>> {
    if path.join(manifest::FILE_NAME).exists() {
        return Ok(Arc::new(NativeStore::open(path)?));
    }
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let part = entry.map_err(Error::io(path))?.path();
        let is_npy = part.extension().is_some_and(|e| e == "npy");
        if is_npy && part.is_file() || part.join(manifest::FILE_NAME).exists() {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        let expected = "manifest.json, *.npy files or native stores";
        return Err(Error::format(path, expected, "a directory with none of them"));
    }
    parts.sort();
    let stores = parts.iter().map(|part| Ok((open_store(part)?, 1.0)));
    Ok(Arc::new(Concatenation::new(stores.collect::<Result<_>>()?)?.at(path)))
}

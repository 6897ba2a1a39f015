//! Small hidden files beside a store that keep what took a whole pass to compute.
//!
//! They are only ever a saving: one that is missing, unreadable or stale is computed again, and a
//! store that cannot be written to is used without.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use serde::{Serialize, de::DeserializeOwned};

/// The place of the sidecar `name`: in a directory, or beside a file with the file's name in front.
pub(crate) fn path(store: &Path, name: &str) -> PathBuf {
    let mut file = OsString::from(".");
    if !store.is_dir() {
        file.push(store.file_name().unwrap_or_default());
        file.push(".");
    }
    file.push(name);
    if store.is_dir() { store.join(file) } else { store.with_file_name(file) }
}

/// What the sidecar holds, if it is there and whole.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Writes the sidecar where that is possible.
pub(crate) fn write(path: &Path, value: &impl Serialize) {
    let written =
        serde_json::to_vec_pretty(value).map_err(std::io::Error::other).and_then(|text| {
            let mut file = AtomicWriteFile::open(path)?;
            file.write_all(&text)?;
            file.commit()
        });
    // A read-only store works without its sidecar.
    drop(written);
}

//! Opening a directory: a native store, shards of saev, or all the files and stores in it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::concatenation::Concatenation;
use crate::native::NativeStore;
use crate::saev::SaevStore;
use crate::{ActivationStore, Error, Result, foreign, manifest, natural, open_store};

/// Extensions of files that are passed over: text, pictures and programs hold no rows.
const PASSED_OVER: &[&str] = &[
    "cfg", "css", "csv", "gif", "html", "ini", "ipynb", "jpeg", "jpg", "js", "json", "jsonl",
    "log", "md", "md5", "pdf", "png", "py", "rst", "sh", "sha256", "svg", "tex", "toml", "tsv",
    "txt", "yaml", "yml",
];

/// Names without extension that are passed over.
const TEXTS: &[&str] = &["LICENSE", "Makefile", "README", "SHA256SUMS"];

/// Opens `path` as a native store, as shards of saev, or as the stores in it one after another, in
/// the natural order of their names.
pub(crate) fn open_directory(path: &Path) -> Result<Arc<dyn ActivationStore>> {
    if path.join(manifest::FILE_NAME).exists() {
        return Ok(Arc::new(NativeStore::open(path)?));
    }
    let entries = entries(path)?;
    if SaevStore::is_at(path, &entries) {
        return Ok(Arc::new(SaevStore::open(path, &entries)?));
    }
    let mut stores = Vec::new();
    for entry in entries {
        if is_part(&entry)? {
            stores.push((open_store(&entry)?, 1.0));
        }
    }
    if stores.is_empty() {
        let expected = "manifest.json, *.npy or *.safetensors files, or native stores";
        return Err(Error::format(path, expected, "a directory with none of them"));
    }
    Ok(Arc::new(Concatenation::new(stores)?.at(path)))
}

/// What is in a directory and not hidden, in natural order.
fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let name = entry.map_err(Error::io(path))?.file_name();
        if !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_by(|a, b| natural::compare(a.as_bytes(), b.as_bytes()));
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// Whether an entry of a directory is a part of the store; false for what is passed over.
///
/// # Errors
/// What may hold rows but is not read, which would be left out silently otherwise.
fn is_part(path: &Path) -> Result<bool> {
    let Ok(metadata) = std::fs::metadata(path) else {
        return Err(Error::format(path, "a file or folder", "a link to nothing"));
    };
    if metadata.is_dir() {
        if path.join(manifest::FILE_NAME).exists() {
            return Ok(true);
        }
        let holds_rows = |entry: &PathBuf| {
            is_file_of_rows(entry)
                || foreign::by_name(entry).is_some()
                || entry.join(manifest::FILE_NAME).exists()
        };
        if entries(path)?.iter().any(holds_rows) {
            let got = "a folder of such files (name it by itself, or in data.stores)";
            return Err(Error::format(path, "a file of rows or a native store", got));
        }
        return Ok(false);
    }
    if metadata.is_file() && is_file_of_rows(path) {
        return Ok(true);
    }
    if let Some(refused) = foreign::by_name(path) {
        return Err(refused);
    }
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    let passed_over = match extension {
        Some(extension) => PASSED_OVER.iter().any(|e| *e == extension),
        None => TEXTS.iter().any(|name| path.ends_with(name)),
    };
    if metadata.is_file() && passed_over {
        return Ok(false);
    }
    let got = "a file that may hold some, of no known kind (move it elsewhere)";
    Err(Error::format(path, "*.npy, *.safetensors or native stores", got))
}

fn is_file_of_rows(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    extension.is_some_and(|e| e == "npy" || e == "safetensors")
}

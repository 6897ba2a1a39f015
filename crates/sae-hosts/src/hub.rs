//! Hosts and corpora by their names on the hub: `hf:owner/name[/path][@revision]`.

use std::path::{Path, PathBuf};

use sae_config::CorpusConfig;
use sae_hub::{Hub, Kind, Listing, Reference};

use crate::corpus::wanted_files;
use crate::{Error, Result};

/// A local place, and what it is called in provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
}

impl Place {
    fn local(path: &Path) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self { path: path.to_path_buf(), name }
    }
}

/// The place of a host: a local one as it is, one of the hub in its cache.
pub(crate) fn host(path: &Path) -> Result<Place> {
    let Some(listing) = listing(path.to_str(), Kind::Model)? else {
        return Ok(Place::local(path));
    };
    let name = listing.reference.to_string();
    let within = listing.reference.path.as_deref();
    let files = host_files(&listing.files, within)
        .map_err(|got| Error::file(path, "files", "those of a host", got))?;
    let path = Hub::from_env().fetch(&listing, &files)?;
    Ok(Place { path, name })
}

/// The place of one path of a corpus.
pub(crate) fn corpus(config: &CorpusConfig, path: &str) -> Result<Place> {
    let Some(listing) = listing(Some(path), Kind::Dataset)? else {
        return Ok(Place::local(Path::new(path)));
    };
    let within = listing.reference.path.as_deref();
    let files = match within.filter(|within| listing.files == [*within]) {
        Some(file) => vec![file.to_owned()],
        None => {
            let prefix = within.map_or(String::new(), |within| format!("{within}/"));
            let names = listing.files.iter().filter_map(|name| name.strip_prefix(&prefix));
            let wanted = wanted_files(config, Path::new(path), names.collect())?;
            wanted.into_iter().map(|name| format!("{prefix}{name}")).collect()
        }
    };
    let path = Hub::from_env().fetch(&listing, &files)?;
    Ok(Place { path, name: listing.reference.to_string() })
}

/// Returns a corpus with every revision of the hub replaced by the commit that it is now.
///
/// # Errors
/// [`Error::Hub`].
pub fn pin(config: &CorpusConfig) -> Result<CorpusConfig> {
    let mut pinned = config.clone();
    for path in &mut pinned.path {
        if let Some(listing) = listing(Some(path), Kind::Dataset)? {
            *path = listing.reference.to_string();
        }
    }
    Ok(pinned)
}

/// Returns a host with its revision on the hub replaced by the commit that it is now.
///
/// # Errors
/// [`Error::Hub`].
pub fn pin_host(path: &Path) -> Result<PathBuf> {
    let listing = listing(path.to_str(), Kind::Model)?;
    Ok(listing.map_or_else(|| path.to_owned(), |listing| listing.reference.to_string().into()))
}

/// The files of a reference; none of a local path.
fn listing(path: Option<&str>, kind: Kind) -> Result<Option<Listing>> {
    match path.filter(|path| Reference::is_one(path)) {
        Some(path) => Ok(Some(Hub::from_env().listing(&path.parse()?, kind)?)),
        None => Ok(None),
    }
}

/// The files that a host is read from; else what there is.
fn host_files(files: &[String], within: Option<&str>) -> Result<Vec<String>, String> {
    if let Some(file) = within.filter(|within| files == [*within]) {
        return Ok(vec![file.to_owned()]);
    }
    let prefix = within.map_or(String::new(), |within| format!("{within}/"));
    let names = || files.iter().filter_map(|name| name.strip_prefix(&prefix));
    let is_whole = names().any(|name| name == "model.safetensors");
    let is_wanted = |name: &&str| {
        let is_weights = match is_whole {
            true => *name == "model.safetensors",
            false => name.starts_with("model-") && name.ends_with(".safetensors"),
        };
        let is_template = name.ends_with(".jinja")
            && (!name.contains('/') || name.starts_with("additional_chat_templates/"));
        is_weights || is_template || name.ends_with(".json") && !name.contains('/')
    };
    let wanted: Vec<String> =
        names().filter(is_wanted).map(|name| format!("{prefix}{name}")).collect();
    if names().any(|name| name == "config.json") {
        return Ok(wanted);
    }
    let single: Vec<String> =
        names().filter(|name| name.ends_with(".gguf")).map(|name| format!("`{name}`")).collect();
    Err(match single.as_slice() {
        [] => "none with `config.json`".to_owned(),
        names => format!("{}; one of them as path behind the name is a host", names.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_its_settings_weights_and_tokenizer() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let files = [
            "README.md",
            "additional_chat_templates/rag.jinja",
            "chat_template.jinja",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "original/params.json",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let expected = [
            "additional_chat_templates/rag.jinja",
            "chat_template.jinja",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        assert_eq!(host_files(&names(&files), None).unwrap(), names(&expected));
        // One file goes before shards, as in a folder.
        let both = names(&["config.json", "model-1.safetensors", "model.safetensors"]);
        assert_eq!(host_files(&both, None).unwrap(), names(&["config.json", "model.safetensors"]));
        let gguf = names(&["x/a.gguf", "x/b.gguf"]);
        let error = host_files(&gguf, Some("x")).unwrap_err();
        assert!(error.starts_with("`a.gguf`, `b.gguf`; one of them"), "{error}");
        assert_eq!(host_files(&gguf[..1], Some("x/a.gguf")).unwrap(), gguf[..1]);
        assert!(host_files(&names(&["model.safetensors"]), None).is_err());
    }
}

//! The files of a corpus: found, told apart by their formats, and hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sae_config::{CorpusConfig, CorpusFormat};

use super::formats::{format_of, has_ending};
use super::pattern;
use crate::{Error, Result};

/// Bytes of a corpus up to which its files are hashed whole when it is opened.
const HASHED_WHOLE: u64 = 1 << 30;

/// Of larger ones: bytes at both ends of each file, and of each of the samples in between.
const SAMPLED_ENDS: u64 = 1 << 20;
const SAMPLE: u64 = 1 << 16;
const N_SAMPLES: u64 = 64;

/// A file of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    /// Its path within the folder that the corpus names.
    pub(super) name: String,
    pub(super) n_bytes: u64,
    /// When it was changed last, where the system tells it.
    modified: Option<SystemTime>,
}

impl Shard {
    fn new(path: PathBuf, name: String, metadata: &Metadata) -> Self {
        Self { path, name, n_bytes: metadata.len(), modified: metadata.modified().ok() }
    }

    /// Refuses a file that is no longer what it was when the corpus was listed and hashed.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        let metadata = std::fs::metadata(&self.path).map_err(Error::io(&self.path))?;
        if *self == Self::new(self.path.clone(), self.name.clone(), &metadata) {
            return Ok(());
        }
        let expected = format!("the {} bytes of when the corpus was opened", self.n_bytes);
        let got = format!("a file of {} bytes that was changed since", metadata.len());
        Err(Error::file(&self.path, "content", expected, got))
    }
}

/// The files of a corpus in the order of their paths, and their format.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) shards: Vec<Shard>,
    pub(super) format: CorpusFormat,
}

impl Files {
    /// Lists the files below `roots`, the local places of the paths of `config`.
    pub(super) fn list(config: &CorpusConfig, roots: &[PathBuf]) -> Result<Self> {
        let mut shards = Vec::new();
        let mut formats = BTreeMap::<&str, (CorpusFormat, u64)>::new();
        for root in roots {
            let is_folder = std::fs::metadata(root).map_err(Error::io(root))?.is_dir();
            let mut found = Vec::new();
            if is_folder {
                walk(root, String::new(), &mut found)?;
                let names = found.iter().map(|shard| shard.name.as_str()).collect();
                let names: BTreeSet<String> =
                    wanted_files(config, root, names)?.into_iter().map(str::to_owned).collect();
                found.retain(|shard| names.contains(&shard.name));
            } else {
                found.push(shard(root.clone(), root)?);
            }
            for shard in &found {
                let format = config.format.or_else(|| format_of(&shard.name));
                // Any other single file is a text, or is refused as one that is none.
                let format = format.unwrap_or(CorpusFormat::Text);
                formats.entry(format.name()).or_insert((format, 0)).1 += 1;
            }
            shards.extend(found);
        }
        match formats.values().collect::<Vec<_>>()[..] {
            [(format, _)] => Ok(Self { shards, format: *format }),
            _ => {
                let counts = formats.iter().map(|(name, (_, n))| format!("{n} {name}"));
                let got = counts.collect::<Vec<_>>().join(", ");
                let expected = "files of one format (`format` or `files` says which)";
                Err(Error::file(&roots[0], "files", expected, got))
            }
        }
    }

    /// Bytes of all files.
    pub(super) fn n_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.n_bytes).sum()
    }

    /// A hash over names, lengths and contents of the files, and in words what of the contents it
    /// covers.
    pub(super) fn hash(&self) -> Result<(String, &'static str)> {
        let whole = self.n_bytes() <= HASHED_WHOLE;
        let mut all = blake3::Hasher::new();
        for shard in &self.shards {
            let file = File::open(&shard.path).map_err(Error::io(&shard.path))?;
            let mut hasher = blake3::Hasher::new();
            if whole || shard.n_bytes <= 2 * SAMPLED_ENDS + N_SAMPLES * SAMPLE {
                hasher.update_reader(&file).map_err(Error::io(&shard.path))?;
            } else {
                for (start, length) in samples(shard.n_bytes) {
                    let mut bytes = vec![0; length as usize];
                    file.read_exact_at(&mut bytes, start).map_err(Error::io(&shard.path))?;
                    hasher.update(&bytes);
                }
            }
            let line = format!("{}\n{}\n{}\n", shard.name, shard.n_bytes, hasher.finalize());
            all.update(line.as_bytes());
        }
        let covers = if whole { "whole files" } else { "samples of files" };
        Ok((all.finalize().to_string(), covers))
    }
}

/// Those of the files of a folder, by their paths in it, that a corpus is read from.
///
/// # Errors
/// [`Error::File`] if there are none, or those of several splits.
pub(crate) fn wanted_files<'a>(
    config: &CorpusConfig,
    root: &Path,
    mut names: Vec<&'a str>,
) -> Result<Vec<&'a str>> {
    let is_of_format = |name: &str| match config.format {
        Some(format) => has_ending(format, name),
        None => format_of(name).is_some(),
    };
    let is_hidden = |name: &str| name.split('/').any(|part| part.starts_with('.'));
    let fits = |name: &str| config.files.as_ref().is_none_or(|wanted| pattern::fits(wanted, name));
    names.retain(|name| !is_hidden(name) && fits(name) && is_of_format(name));
    if names.is_empty() {
        return Err(none_found(config, root));
    }
    if config.files.is_none() {
        check_splits(root, &names)?;
    }
    Ok(names)
}

/// First byte and length of the parts of a file that are hashed.
fn samples(n_bytes: u64) -> Vec<(u64, u64)> {
    let step = (n_bytes - 2 * SAMPLED_ENDS - SAMPLE) / N_SAMPLES;
    let inner = (0..N_SAMPLES).map(|i| (SAMPLED_ENDS + i * step, SAMPLE));
    let ends = [(0, SAMPLED_ENDS), (n_bytes - SAMPLED_ENDS, SAMPLED_ENDS)];
    ends.into_iter().chain(inner).collect()
}

/// The files of a folder and of those in it, in the order of their names; hidden ones are passed
/// over.
fn walk(folder: &Path, prefix: String, found: &mut Vec<Shard>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(Error::io(folder))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let metadata = std::fs::metadata(&path).map_err(Error::io(&path))?;
        let name = format!("{prefix}{name}");
        if metadata.is_dir() {
            walk(&path, format!("{name}/"), found)?;
        } else {
            found.push(Shard::new(path, name, &metadata));
        }
    }
    Ok(())
}

fn shard(path: PathBuf, root: &Path) -> Result<Shard> {
    let name = path.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
    let metadata = std::fs::metadata(&path).map_err(Error::io(&path))?;
    Ok(Shard::new(path, name, &metadata))
}

fn none_found(config: &CorpusConfig, root: &Path) -> Error {
    let kind = config.format.map_or("a corpus", CorpusFormat::name);
    let of = config.files.as_ref().map_or(String::new(), |files| format!(" that fit `{files}`"));
    Error::file(root, "files", format!("files of {kind}{of}"), "none")
}

/// Refuses a folder in which several splits of a data set lie, as the hub names them.
fn check_splits(root: &Path, files: &[&str]) -> Result<()> {
    let mut splits = BTreeMap::new();
    for name in files {
        if let Some(split) = split_of(name) {
            splits.entry(split).or_insert(name);
        }
    }
    if splits.len() < 2 {
        return Ok(());
    }
    let names: Vec<String> = splits.values().map(|name| format!("`{name}`")).collect();
    let expected = "files of one split (`files = \"**/*train*\"` says which)";
    Err(Error::file(root, "files", expected, names.join(", ")))
}

/// The split that the words of a path name, as the hub reads them.
fn split_of(name: &str) -> Option<&'static str> {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).find_map(|word| match word {
        "train" | "training" => Some("train"),
        "test" | "testing" | "eval" | "evaluation" => Some("test"),
        "validation" | "valid" | "val" | "dev" => Some("validation"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_told_by_words() {
        for (name, split) in [
            ("data/train-00000-of-00003.parquet", Some("train")),
            ("en/validation/0000.parquet", Some("validation")),
            ("test.jsonl.gz", Some("test")),
            ("data/latest-contest.parquet", None),
            ("trains.txt", None),
        ] {
            assert_eq!(split_of(name), split, "{name}");
        }
    }

    #[test]
    fn samples_lie_in_the_file() {
        for n_bytes in [2 * SAMPLED_ENDS + N_SAMPLES * SAMPLE + 1, 1 << 31, (1 << 40) + 7] {
            let samples = samples(n_bytes);
            assert!(samples.iter().all(|(start, length)| start + length <= n_bytes));
            assert_eq!(samples.len() as u64, N_SAMPLES + 2);
        }
    }
}

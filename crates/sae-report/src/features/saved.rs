//! Feature pages that were written, read again.

use std::fs;
use std::path::{Path, PathBuf};

use sae_config::{FeatureRecord, FeatureSet};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::Compact;
use super::tokens::Texts;
use super::{DATA, io};
use crate::{Error, Result};

/// What the index says it is.
pub(super) const FORMAT: &str = "softsae-features";

/// The version of the data.
pub(super) const VERSION: u32 = 2;

/// `index.js`: what the list shows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) set: FeatureSet,
    pub(super) columns: Columns,
    pub(super) features_per_file: usize,
    /// The first word of each file of words.
    pub(super) words: Vec<String>,
}

/// What the list shows: a number for each feature.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Columns {
    pub(super) n_active: Vec<u64>,
    pub(super) max: Vec<f32>,
    pub(super) mean: Vec<f32>,
    pub(super) norm: Vec<f32>,
    /// Correlation with k̂.
    pub(super) k_hat: Vec<Option<f32>>,
    /// The different tokens of largest activation, in the order of the top contexts.
    pub(super) peaks: Vec<Vec<u32>>,
    /// The token of the largest logit.
    pub(super) promoted: Vec<Option<u32>>,
}

/// Feature pages in a folder, to be read feature by feature.
#[derive(Debug)]
pub struct SavedFeatures {
    data: PathBuf,
    set: FeatureSet,
    features_per_file: usize,
    texts: Texts,
}

impl SavedFeatures {
    /// Opens the pages that a folder has.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Pages`] for data of another version, or that is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let data = folder.join(DATA);
        let path = data.join("index.js");
        let index: serde_json::Value = read(&path, "index")?;
        let got = |key: &str| index[key].clone();
        if (got("format"), got("version")) != (FORMAT.into(), VERSION.into()) {
            let got = format!("{} {}", got("format"), got("version"));
            return Err(wrong(&path, format!("\"{FORMAT}\" {VERSION}"), got));
        }
        let parsed = |e: serde_json::Error| wrong(&path, "the index of feature pages", e);
        let Index { set, features_per_file, .. } = serde_json::from_value(index).map_err(parsed)?;
        if features_per_file == 0 {
            return Err(wrong(&path, "at least one of features_per_file", 0));
        }
        let path = data.join("tokens.js");
        let texts: Texts = read(&path, "tokens")?;
        if texts.ids.len() != texts.texts.len() || !texts.ids.is_sorted_by(|a, b| a < b) {
            return Err(wrong(&path, "a text for each of ascending ids", "others"));
        }
        Ok(Self { data, set, features_per_file, texts })
    }

    /// What the features have in common.
    #[must_use]
    pub fn set(&self) -> &FeatureSet {
        &self.set
    }

    /// The tokens whose texts are known.
    pub(crate) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Files of features.
    #[must_use]
    pub fn n_files(&self) -> usize {
        self.set.n_features.div_ceil(self.features_per_file)
    }

    /// The features of a file, in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Pages`].
    pub fn read(&self, file: usize) -> Result<Vec<FeatureRecord>> {
        let path = self.data.join(format!("features/{file}.js"));
        let records: Vec<Compact> = read(&path, &format!("features/{file}"))?;
        let first = file * self.features_per_file;
        let expected = self.features_per_file.min(self.set.n_features - first);
        if records.len() != expected {
            return Err(wrong(&path, format!("{expected} features"), records.len()));
        }
        let numbered = (first as u32..).zip(records).map(|(number, record)| {
            let outside = || wrong(&path, "places inside of contexts", format!("feature {number}"));
            record.expand(number).ok_or_else(outside)
        });
        numbered.collect()
    }
}

/// The value of a script, which gives it this name.
fn read<T: DeserializeOwned>(path: &Path, name: &str) -> Result<T> {
    let text = fs::read_to_string(path).map_err(io(path))?;
    let start = format!("softsae({name:?},");
    let json = text.strip_prefix(&start).and_then(|rest| rest.strip_suffix(");\n"));
    let json = json.ok_or_else(|| wrong(path, format!("one call {start}…);"), "another script"))?;
    serde_json::from_str(json).map_err(|e| wrong(path, "data of feature pages", e))
}

fn wrong(path: &Path, expected: impl Into<String>, got: impl ToString) -> Error {
    Error::Pages { path: path.to_owned(), expected: expected.into(), got: got.to_string() }
}

//! Feature pages that were written, read again.

use std::fs;
use std::path::{Path, PathBuf};

use sae_config::{FeatureContext, FeatureLabels, FeatureRecord, FeatureSet, HeldOut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::Compact;
use super::tokens::Texts;
use super::{DATA, held_out, io, labels, script};
use crate::{Error, Result};

/// What the index says it is.
pub(super) const FORMAT: &str = "softsae-features";

/// The version of the data.
pub(super) const VERSION: u32 = 3;

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
    /// Balanced accuracy of the classifier by n-grams.
    pub(super) n_gram: Vec<Option<f32>>,
}

/// Feature pages in a folder, to be read feature by feature.
#[derive(Debug)]
pub struct SavedFeatures {
    data: PathBuf,
    set: FeatureSet,
    features_per_file: usize,
    n_active: Vec<u64>,
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
        let Index { set, features_per_file, columns, .. } =
            serde_json::from_value(index).map_err(parsed)?;
        let (n_active, n_features) = (columns.n_active, set.n_features);
        if n_active.len() != n_features {
            return Err(wrong(&path, format!("{n_features} features"), n_active.len()));
        }
        if features_per_file == 0 {
            return Err(wrong(&path, "at least one of features_per_file", 0));
        }
        let path = data.join("tokens.js");
        let texts: Texts = read(&path, "tokens")?;
        if texts.ids.len() != texts.texts.len() || !texts.ids.is_sorted_by(|a, b| a < b) {
            return Err(wrong(&path, "a text for each of ascending ids", "others"));
        }
        Ok(Self { data, set, features_per_file, n_active, texts })
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

    /// So many features, drawn uniformly from those that are active; of fewer there are no more.
    #[must_use]
    pub fn sample(&self, n: usize) -> Vec<u32> {
        let active = (0..).zip(&self.n_active).filter(|(_, n)| **n > 0);
        let mut features: Vec<u32> = active.map(|(feature, _)| feature).collect();
        features.sort_by_cached_key(|feature| crate::tasks::hash(*feature, 2, self.set.seed));
        features.truncate(n);
        features
    }

    /// The file that has a feature, and its place there.
    pub(crate) fn place(&self, feature: u32) -> (usize, usize) {
        (feature as usize / self.features_per_file, feature as usize % self.features_per_file)
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

    /// Windows from which contexts without a feature are taken.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Pages`].
    pub fn pool(&self) -> Result<Vec<FeatureContext>> {
        let path = self.data.join("pool.js");
        let pool = held_out::expanded_pool(read(&path, "pool")?);
        pool.ok_or_else(|| wrong(&path, "places inside of windows", "others"))
    }

    /// What is held out of the features of a file, of a pool of so many windows.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Pages`].
    pub fn held_out(&self, file: usize, n_pool: usize) -> Result<Vec<HeldOut>> {
        let path = self.data.join(format!("held-out/{file}.js"));
        let all: Vec<held_out::Compact> = read(&path, &format!("held-out/{file}"))?;
        let expected =
            self.features_per_file.min(self.set.n_features - file * self.features_per_file);
        if all.len() != expected {
            return Err(wrong(&path, format!("{expected} features"), all.len()));
        }
        let whole = all.into_iter().map(|one| one.expand(n_pool)).collect::<Option<_>>();
        whole.ok_or_else(|| wrong(&path, "places inside of contexts and of the pool", "others"))
    }

    /// What judges say of the features.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Pages`].
    pub fn labels(&self) -> Result<FeatureLabels> {
        let path = self.data.join("labels.js");
        let file: labels::File = read(&path, "labels")?;
        let labels = file.expand(self.set.n_features);
        labels.ok_or_else(|| wrong(&path, "labels of the features that there are", "others"))
    }

    /// Puts `labels` in the place of those that the pages show.
    ///
    /// # Errors
    /// [`Error::Results`] if the file cannot be written.
    pub fn write_labels(&self, labels: &FeatureLabels) -> Result<()> {
        let path = self.data.join("labels.js");
        Ok(sae_config::write_text(&path, &script("labels", &labels::File::new(labels)))?)
    }
}

/// The value of a script, which gives it this name.
pub(super) fn read<T: DeserializeOwned>(path: &Path, name: &str) -> Result<T> {
    let text = fs::read_to_string(path).map_err(io(path))?;
    let start = format!("softsae({name:?},");
    let json = text.strip_prefix(&start).and_then(|rest| rest.strip_suffix(");\n"));
    let json = json.ok_or_else(|| wrong(path, format!("one call {start}…);"), "another script"))?;
    serde_json::from_str(json).map_err(|e| wrong(path, "data of feature pages", e))
}

fn wrong(path: &Path, expected: impl Into<String>, got: impl ToString) -> Error {
    Error::Pages { path: path.to_owned(), expected: expected.into(), got: got.to_string() }
}

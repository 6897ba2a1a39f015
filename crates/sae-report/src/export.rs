//! Feature pages as the files of other tools.

mod dashboard;
mod neuronpedia;
mod staged;

use std::path::{Path, PathBuf};

use sae_config::{FeatureLabels, TokenText};
use serde::Serialize;

use crate::{Error, Result, SavedFeatures};
use dashboard::{Batch, Feature};
use staged::Staged;

/// Files of features in a batch, each of 64.
const FILES_PER_BATCH: usize = 2;

/// Longest name: files and folders are called by it and by what is put before and behind it.
const MAX_NAME: usize = 200;

/// Whose files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// `batch-N.json` of SAEDashboard's Neuronpedia runner.
    SaeDashboard,
    /// What Neuronpedia imports in bulk.
    Neuronpedia,
}

/// What other tools call the model, the layer and the SAE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportNames {
    /// The host.
    pub model: String,
    /// The layer, from 0.
    pub layer: usize,
    /// The hook point within the layer, as TransformerLens names it.
    pub hook: String,
    /// The set of SAEs, one a layer, that this one belongs to.
    pub set: String,
    /// What the set is, for readers.
    pub description: String,
    /// The release that the set belongs to.
    pub release: String,
    /// What the release is, for readers.
    pub title: String,
    /// Who made it.
    pub creator: String,
    /// The creator's id in Neuronpedia's database.
    pub creator_id: String,
    /// Where to read more; may be empty.
    pub url: String,
    /// The texts.
    pub dataset: String,
    /// When, as ISO 8601 writes it.
    pub created: String,
}

/// Writes feature pages as files of another tool into `out/MODEL/LAYER-SET`; gives that folder.
///
/// # Errors
/// [`Error::Export`] for names that the tool cannot take, pages without the texts of tokens, or a
/// folder that has files; [`Error::Io`], [`Error::Pages`].
pub fn export_features(
    pages: &SavedFeatures,
    format: ExportFormat,
    names: &ExportNames,
    out: &Path,
) -> Result<PathBuf> {
    check(pages, names)?;
    let source = format!("{}-{}", names.layer, names.set);
    let staged = Staged::create(&out.join(&names.model), &source)?;
    if format == ExportFormat::Neuronpedia {
        neuronpedia::write_metadata(&staged, pages, names, &source)?;
    }
    let mut labels = match format {
        ExportFormat::SaeDashboard => FeatureLabels::new(),
        ExportFormat::Neuronpedia => pages.labels()?,
    };
    for first in (0..pages.n_files()).step_by(FILES_PER_BATCH) {
        let number = first / FILES_PER_BATCH;
        let mut features: Vec<Feature> = Vec::new();
        for file in first..pages.n_files().min(first + FILES_PER_BATCH) {
            let records = pages.read(file)?;
            features.extend(records.iter().map(|record| Feature::new(record, pages, names)));
        }
        match format {
            ExportFormat::SaeDashboard => {
                let batch = Batch::new(names, features);
                staged.write(&format!("batch-{number}.json"), &text(&batch))?;
            }
            ExportFormat::Neuronpedia => {
                neuronpedia::write_batch(&staged, pages, names, &source, number, &features)?;
                let next = features.last().map_or(0, |last| last.feature_index + 1);
                let later = labels.split_off(&next);
                neuronpedia::write_explanations(&staged, pages, names, &source, number, &labels)?;
                labels = later;
            }
        }
    }
    staged.finish()
}

/// Refuses what would give files that say nothing, or that are not where they seem to be.
fn check(pages: &SavedFeatures, names: &ExportNames) -> Result<()> {
    let is_id = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        (1..=MAX_NAME).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.')
    };
    let expected = "at most 200 letters, digits, `-`, `_` and `.`, not `.` first";
    for (what, name) in [("--model", &names.model), ("--set", &names.set)] {
        if !is_id(name) {
            return Err(Error::Export { what, expected, got: format!("{name:?}") });
        }
    }
    if !is_id(&names.release) {
        return Err(Error::Export {
            what: "--release",
            expected,
            got: format!("{:?}", names.release),
        });
    }
    pages.check_texts()
}

/// JSON of what is strings, numbers and lists.
fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and lists are valid JSON")
}

impl SavedFeatures {
    /// Refuses pages that do not show the texts of tokens.
    pub(crate) fn check_texts(&self) -> Result<()> {
        if self.set().has_tokens && self.texts().texts.iter().any(Option::is_some) {
            return Ok(());
        }
        Err(Error::Export {
            what: "feature pages",
            expected: "those of tokens, made with --host",
            got: "rows or numbers of tokens without texts".into(),
        })
    }

    /// What a token stands for, where it is known.
    pub(crate) fn token_text(&self, id: u32) -> Option<&TokenText> {
        let texts = self.texts();
        let at = texts.ids.binary_search(&id).ok()?;
        texts.texts[at].as_ref()
    }

    /// A token as both tools show it: characters as they are; pieces of them as the vocabulary spells
    /// them, its signs for spaces and line feeds replaced.
    pub(crate) fn token(&self, id: u32) -> String {
        match self.token_text(id) {
            Some(TokenText::Whole(text)) => text.clone(),
            Some(TokenText::Broken(bytes)) => match self.texts().spelled.get(&id) {
                Some(spelled) => spelled.replace('Ġ', " ").replace('Ċ', "\n").replace('ĉ', "\t"),
                None => bytes.iter().map(|byte| format!("<0x{byte:02X}>")).collect(),
            },
            None => "<|outofrange|>".to_owned(),
        }
    }
}

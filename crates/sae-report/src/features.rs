//! Feature pages: `features.html` beside data that it loads as it needs them, also from a disk.
//!
//! A page from a disk may load scripts but no other files: each file of data is a script that calls
//! one function.

mod record;
mod saved;
mod tokens;
mod words;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sae_config::{FeatureRecord, FeatureSet};
use serde::Serialize;

use crate::{Error, Result};
use record::Compact;
pub use saved::SavedFeatures;
use saved::{Columns, FORMAT, Index, VERSION};
pub use tokens::Vocabulary;
use words::Words;

const FRAME: &str = include_str!("features/features.html");
const STYLE: &str = concat!(include_str!("page/page.css"), include_str!("features/features.css"));
const SCRIPT: &str = concat!(
    include_str!("page/svg.js"),
    include_str!("page/text.js"),
    include_str!("features/data.js"),
    include_str!("features/text.js"),
    include_str!("features/list.js"),
    include_str!("features/feature.js"),
    include_str!("features/page.js"),
);

/// The page.
const PAGE: &str = "features.html";

/// The folder of its data.
const DATA: &str = "features-data";

/// The same while it is written.
const PARTIAL: &str = "features-data.partial";

/// Features in a file.
const FEATURES_PER_FILE: usize = 64;

/// Peaks of the top contexts that the list shows of each feature.
const PEAKS: usize = 4;

/// Writes feature pages, one feature at a time.
///
/// Until [`finish`](Self::finish) an earlier page in the folder stays as it is; a process that is killed
/// leaves no new page.
#[derive(Debug)]
pub struct FeaturePages {
    folder: PathBuf,
    vocabulary: Vocabulary,
    /// Features of the file that is filled.
    waiting: Vec<FeatureRecord>,
    columns: Columns,
    used: BTreeSet<u32>,
    words: Words,
}

impl FeaturePages {
    /// Begins pages in `folder`, whose tokens are those of `vocabulary`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Occupied`] for a folder whose `features-data` is something else.
    pub fn create(folder: &Path, vocabulary: Vocabulary) -> Result<Self> {
        let data = folder.join(DATA);
        if data.exists() && !data.join("index.js").is_file() {
            return Err(Error::Occupied { path: data });
        }
        let partial = folder.join(PARTIAL);
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(io(&partial))?;
        }
        for part in ["features", "words"] {
            let part = partial.join(part);
            fs::create_dir_all(&part).map_err(io(&part))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            vocabulary,
            waiting: Vec::new(),
            columns: Columns::default(),
            used: BTreeSet::new(),
            words: Words::default(),
        })
    }

    /// Adds the next feature.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, record: FeatureRecord) -> Result<()> {
        let mut peaks: Vec<u32> = Vec::new();
        for context in &record.top {
            let peak = context.tokens.get(context.at).map(|token| token.id);
            peaks.extend(peak.filter(|id| peaks.len() < PEAKS && !peaks.contains(id)));
            self.words.add(record.feature, context, &self.vocabulary);
        }
        let columns = &mut self.columns;
        columns.n_active.push(record.n_active);
        columns.max.push(record.max);
        columns.mean.push(record.mean as f32);
        columns.norm.push(record.decoder_norm);
        columns.k_hat.push(record.k_hat.and_then(|k_hat| k_hat.correlation).map(|r| r as f32));
        columns.peaks.push(peaks);
        let attribution = record.attribution.as_ref();
        columns.promoted.push(attribution.and_then(|a| a.promoted.first()).map(|token| token.id));
        record::tokens(&record, &mut |id| {
            self.used.insert(id);
        });
        self.waiting.push(record);
        if self.waiting.len() == FEATURES_PER_FILE { self.flush() } else { Ok(()) }
    }

    /// Writes what is left, and the page. Gives its path.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Results`].
    pub fn finish(mut self, set: &FeatureSet) -> Result<PathBuf> {
        self.flush()?;
        let words = std::mem::take(&mut self.words).finish();
        for (number, part) in words.iter().enumerate() {
            self.write(&format!("words/{number}.js"), &format!("words/{number}"), part)?;
        }
        self.write("tokens.js", "tokens", &self.vocabulary.of(&self.used))?;
        let index = Index {
            format: FORMAT.to_owned(),
            version: VERSION,
            set: set.clone(),
            columns: std::mem::take(&mut self.columns),
            features_per_file: FEATURES_PER_FILE,
            words: words.iter().map(|part| part[0].0.clone()).collect(),
        };
        self.write("index.js", "index", &index)?;
        // Once for all files: there may be thousands.
        let sync = |folder: File| rustix::fs::syncfs(folder).map_err(std::io::Error::from);
        File::open(&self.folder).and_then(sync).map_err(io(&self.folder))?;
        let (page, data) = (self.folder.join(PAGE), self.folder.join(DATA));
        // An old page never shows new data.
        if page.exists() {
            fs::remove_file(&page).map_err(io(&page))?;
        }
        if data.exists() {
            fs::remove_dir_all(&data).map_err(io(&data))?;
        }
        let partial = self.folder.join(PARTIAL);
        fs::rename(&partial, &data).map_err(io(&partial))?;
        sae_config::write_text(&page, &page_of(set))?;
        Ok(page)
    }

    fn flush(&mut self) -> Result<()> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let number = first.feature as usize / FEATURES_PER_FILE;
        let records: Vec<_> = self.waiting.iter().map(Compact::new).collect();
        self.waiting.clear();
        self.write(&format!("features/{number}.js"), &format!("features/{number}"), &records)
    }

    /// Writes a script that gives `value` the name `name`.
    fn write(&self, file: &str, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.folder.join(PARTIAL).join(file);
        // Strings, numbers and lists: always valid JSON, which is JavaScript.
        let text = serde_json::to_string(value).expect("data are valid JSON");
        fs::write(&path, format!("softsae({name:?},{text});\n")).map_err(io(&path))
    }
}

/// The page of a set of features: one HTML document that loads nothing but its data.
fn page_of(set: &FeatureSet) -> String {
    let title = crate::page::escape(&set.checkpoint);
    // The title last, so that nothing in it is taken for a mark.
    let page = FRAME.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
    page.replace("{{title}}", &title)
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error {
    |source| Error::Io { path: path.to_owned(), source }
}

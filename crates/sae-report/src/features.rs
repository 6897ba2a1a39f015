//! Feature pages: `features.html` beside data that it loads as it needs them, also from a disk.
//!
//! A page from a disk may load scripts but no other files: each file of data is a script that calls
//! one function.

mod held_out;
mod labels;
mod name;
mod pictures;
mod record;
mod saved;
mod tokens;
mod unfinished;
mod words;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sae_config::{FeatureContext, FeatureLabels, FeatureRecord, FeatureSet};
use serde::Serialize;

use crate::{Error, Result};
pub use pictures::Picture;
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
    include_str!("features/picture.js"),
    include_str!("features/labels.js"),
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

/// The data of an earlier page while new ones take their place.
const EARLIER: &str = "features-data.earlier";

/// The folder in it for what is needed meanwhile.
const SCRATCH: &str = "pass";

/// Features in a file.
const FEATURES_PER_FILE: usize = 64;

/// Peaks of the top contexts that the list shows of each feature.
const PEAKS: usize = 4;

/// Writes feature pages, one feature at a time.
///
/// Until [`finish`](Self::finish) an earlier page in the folder stays as it is; a process that is killed
/// leaves no new page, and what it has written is gone on with.
#[derive(Debug)]
pub struct FeaturePages {
    folder: PathBuf,
    vocabulary: Vocabulary,
    /// Features added or found.
    n_features: usize,
    /// Features of the file that is filled.
    waiting: Vec<FeatureRecord>,
    columns: Columns,
    used: BTreeSet<u32>,
    pictures: BTreeSet<u32>,
    words: Words,
}

impl FeaturePages {
    /// Begins pages in `folder`, whose tokens are those of `vocabulary`. `key` is a hash of all that
    /// decides what is added: what a killed process has written under the same key is gone on with,
    /// the rest removed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Occupied`] for a folder whose `features-data` is something else.
    pub fn create(folder: &Path, vocabulary: Vocabulary, key: &str) -> Result<Self> {
        let data = folder.join(DATA);
        unfinished::settle(folder)?;
        if data.exists() && !data.join("index.js").is_file() {
            return Err(Error::Occupied { path: data });
        }
        let mut pages = Self {
            folder: folder.to_owned(),
            vocabulary,
            n_features: 0,
            waiting: Vec::new(),
            columns: Columns::default(),
            used: BTreeSet::new(),
            pictures: BTreeSet::new(),
            words: Words::default(),
        };
        for record in unfinished::open(&pages.partial(), key)? {
            pages.note(&record);
        }
        Ok(pages)
    }

    /// Features that are there: those of an unfinished page and those that were added.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// A folder for files that are needed until the page is finished, and removed then.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.partial().join(SCRATCH)
    }

    fn partial(&self) -> PathBuf {
        self.folder.join(PARTIAL)
    }

    /// Adds the next feature.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, record: FeatureRecord) -> Result<()> {
        self.note(&record);
        self.waiting.push(record);
        if self.waiting.len() == FEATURES_PER_FILE { self.flush() } else { Ok(()) }
    }

    /// Takes in what the list and the search show of a feature.
    fn note(&mut self, record: &FeatureRecord) {
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
        let accuracy = record.n_gram.and_then(|answers| answers.balanced_accuracy());
        columns.n_gram.push(accuracy.map(|share| share as f32));
        record::tokens(record, &mut |id| {
            self.used.insert(id);
        });
        self.pictures.extend(pictures::pictures(record));
        self.n_features += 1;
    }

    /// Writes what is left, the windows from which contexts without a feature are taken, and the page.
    /// Gives its path.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Results`]; [`Error::Pages`] for labels of earlier pages of the same
    /// features that cannot be read.
    pub fn finish(mut self, set: &FeatureSet, pool: &[FeatureContext]) -> Result<PathBuf> {
        self.flush()?;
        let words = std::mem::take(&mut self.words).finish();
        for (number, part) in words.iter().enumerate() {
            self.write(&format!("words/{number}"), part)?;
        }
        self.used.extend(pool.iter().flat_map(|one| &one.tokens).map(|token| token.id));
        self.write("pool", &held_out::compact_pool(pool))?;
        self.write("tokens", &self.vocabulary.of(&self.used))?;
        self.write("labels", &labels::File::new(&self.labels(set)?))?;
        let index = Index {
            format: FORMAT.to_owned(),
            version: VERSION,
            set: set.clone(),
            columns: std::mem::take(&mut self.columns),
            features_per_file: FEATURES_PER_FILE,
            words: words.iter().map(|part| part[0].0.clone()).collect(),
        };
        self.write("index", &index)?;
        // Once for all files: there may be thousands.
        let sync = |folder: File| rustix::fs::syncfs(folder).map_err(std::io::Error::from);
        File::open(&self.folder).and_then(sync).map_err(io(&self.folder))?;
        let [page, data, earlier] = [PAGE, DATA, EARLIER].map(|name| self.folder.join(name));
        // An old page never shows new data. Whatever ends the process from here on, `settle` knows by
        // what is there how far it came.
        if page.exists() {
            fs::remove_file(&page).map_err(io(&page))?;
        }
        if data.exists() {
            fs::rename(&data, &earlier).map_err(io(&data))?;
        }
        fs::rename(self.partial(), &data).map_err(io(&data))?;
        sae_config::write_text(&page, &page_of(&self.folder, set))?;
        unfinished::settle(&self.folder)?;
        Ok(page)
    }

    /// Those of earlier pages in the folder, if they show the same.
    fn labels(&self, set: &FeatureSet) -> Result<FeatureLabels> {
        let Ok(earlier) = SavedFeatures::open(&self.folder) else {
            return Ok(FeatureLabels::new());
        };
        let of = |set: &FeatureSet| {
            (set.checkpoint_hash.clone(), set.store_hash.clone(), set.window, set.seed)
        };
        if of(earlier.set()) == of(set) { earlier.labels() } else { Ok(FeatureLabels::new()) }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let number = first.feature as usize / FEATURES_PER_FILE;
        let held_out: Vec<_> = self.waiting.iter().map(held_out::Compact::new).collect();
        let records: Vec<_> = self.waiting.iter().map(Compact::new).collect();
        self.waiting.clear();
        self.write(&format!("held-out/{number}"), &held_out)?;
        self.write(&format!("features/{number}"), &records)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.partial().join(format!("{name}.js"));
        fs::write(&path, script(name, value)).map_err(io(&path))
    }
}

/// A script that gives `value` the name `name`.
fn script(name: &str, value: &impl Serialize) -> String {
    // Strings, numbers and lists: always valid JSON, which is JavaScript.
    let text = serde_json::to_string(value).expect("data are valid JSON");
    format!("softsae({name:?},{text});\n")
}

/// The page of a set of features: one HTML document that loads nothing but its data.
fn page_of(folder: &Path, set: &FeatureSet) -> String {
    let title = crate::page::escape(&name::title(set));
    let link = |at: &str| format!("<a id=\"to-report\" href=\"{at}\">Report of the sweep</a>");
    let report = name::report(folder).map_or_else(String::new, link);
    // The title last, so that nothing in it is taken for a mark.
    let page = FRAME.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
    page.replace("{{report}}", &report).replace("{{title}}", &title)
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error {
    |source| Error::Io { path: path.to_owned(), source }
}

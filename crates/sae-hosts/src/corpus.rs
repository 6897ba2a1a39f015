//! Documents, wherever they come from: text files, JSON lines, Parquet, files of tokens.

mod chat;
mod files;
mod formats;
mod json;
mod jsonl;
mod parquet;
mod pattern;
mod plain;
mod plan;
mod read_ahead;
mod record;
mod shuffle;
mod split;
mod stream;
mod texts;
mod tokens;

use std::ops::Range;

use sae_config::CorpusConfig;
use sae_data::Provenance;
use serde::{Deserialize, Serialize};

use crate::tokenizer::HostTokenizer;
use crate::{Error, Result};

pub use crate::hub::pin;
pub(crate) use files::wanted_files;
use read_ahead::ReadAhead;
use shuffle::Shuffled;
use stream::Stream;
pub use texts::Texts;

/// Opens a corpus for a host with this tokenizer. Its files are listed and checked; documents are
/// read on a thread of their own, a little ahead of whoever asks for them, in bounded memory.
///
/// # Errors
/// [`Error::Io`] or [`Error::File`] with the file that is not there or not as expected;
/// [`Error::Input`] with the setting that cannot be followed.
pub fn open(config: &CorpusConfig, tokenizer: &HostTokenizer) -> Result<Box<dyn Documents>> {
    config.check("corpus").map_err(|error| Error::Corpus { message: error.to_string() })?;
    let stream = Stream::open(config, tokenizer)?;
    Ok(Box::new(match &config.shuffle {
        Some(shuffle) => ReadAhead::new(Box::new(Shuffled::new(Box::new(stream), shuffle))),
        None => ReadAhead::new(Box::new(stream)),
    }))
}

/// Documents in an order that their settings alone decide.
pub trait Documents: Send + std::fmt::Debug {
    /// Returns the next document, or `None` after the last.
    ///
    /// # Errors
    /// A file that cannot be read or holds what is not expected; the message names it.
    fn next(&mut self) -> Result<Option<Document>>;

    /// Returns where the document lies that [`next`](Self::next) gives next.
    fn position(&self) -> DocumentPosition;

    /// Goes to a position of the same documents; the default one is the first document.
    ///
    /// # Errors
    /// A position that these documents do not have, or a file that cannot be read.
    fn resume(&mut self, position: &DocumentPosition) -> Result<()>;

    /// Adds to `provenance` everything that decides the documents.
    fn describe(&self, provenance: &mut Provenance);

    /// The share of the corpus that is given, the last document included, from 0 to 1.
    fn fraction(&self) -> f64;

    /// Whether no document is known to be left.
    fn is_last(&self) -> bool;

    /// What was left out because it was damaged.
    fn skipped(&self) -> Skipped {
        Skipped::default()
    }

    /// A hash of everything that decides the documents.
    fn identity(&self) -> String {
        let mut provenance = Provenance::default();
        self.describe(&mut provenance);
        let json = serde_json::to_string(&provenance).expect("strings alone");
        blake3::hash(json.as_bytes()).to_string()
    }
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its number in the order in which the corpus is read, those of other splits counted too.
    pub number: u32,
    /// Where it came from, for people.
    pub name: String,
    /// What it says.
    pub content: Content,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A text.
    Text(String),
    /// Ids of the host's tokens.
    Ids(Vec<u32>),
    /// A text of which some parts count alone: the host reads the others.
    Parts {
        /// The whole text.
        text: String,
        /// The bytes that count, in order.
        counted: Vec<Range<usize>>,
    },
}

/// A place between two documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentPosition {
    /// The section (a file, or a row group of Parquet) in the order in which sections are read.
    pub section: u64,
    /// Records of the section that come before.
    pub record: u64,
    /// The number of the next document.
    pub number: u32,
    /// Documents taken of the window that is shuffled and that begins there.
    pub taken: u64,
    /// Damaged files and documents left out before.
    pub skipped: u64,
}

/// What was left out because it was damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many files and documents.
    pub count: u64,
    /// The first of them, and what was wrong.
    pub examples: Vec<String>,
}

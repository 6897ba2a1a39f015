//! What of which files is read, in which order.

use std::path::PathBuf;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use sae_config::{CorpusConfig, CorpusFormat, Damaged, TokenType};
use sae_data::Provenance;

use super::chat::ChatRenderer;
use super::files::Files;
use super::json::Object;
use super::plain::PlainText;
use super::record::Records;
use super::split::Part;
use super::{Content, DocumentPosition, Skipped, jsonl, parquet, tokens};
use crate::tokenizer::HostTokenizer;
use crate::{Error, Result, hub};

/// A part of a file that is read on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// The number of its file.
    pub(super) shard: usize,
    /// The row group of Parquet.
    pub(super) row_group: Option<usize>,
    n_bytes: u64,
}

impl Section {
    fn whole(shard: usize, n_bytes: u64) -> Self {
        Self { shard, row_group: None, n_bytes }
    }

    /// Where a record of it is, for people.
    pub(super) fn place(&self, record: u64) -> String {
        match self.row_group {
            Some(group) => format!("row {record} of row group {group}"),
            None => format!("document {record}"),
        }
    }
}

/// A corpus that is listed and checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: CorpusConfig,
    pub(super) files: Files,
    /// In the order in which they are read.
    pub(super) sections: Vec<Section>,
    pub(super) part: Option<Part>,
    /// Files that could not be opened.
    pub(super) skipped: Skipped,
    chat: Option<ChatRenderer>,
    document_end: Option<u32>,
    /// What the paths are called in provenance.
    names: Vec<String>,
    hash: (String, &'static str),
    /// Bytes before each section, and of all.
    bytes_before: Vec<u64>,
}

impl Plan {
    pub(super) fn new(config: &CorpusConfig, tokenizer: &HostTokenizer) -> Result<Self> {
        let (roots, names) = roots(config)?;
        let files = Files::list(config, &roots)?;
        check_settings(config, files.format)?;
        let chat = match &config.chat {
            Some(chat) => Some(ChatRenderer::new(tokenizer, chat)?),
            None => None,
        };
        let hash = files.hash()?;
        let mut plan = Self {
            config: config.clone(),
            files,
            sections: Vec::new(),
            part: config.parts().map(|(split, share)| Part::new(split, share)),
            skipped: Skipped::default(),
            chat,
            document_end: config.document_end.or(tokenizer.eos()),
            names,
            hash,
            bytes_before: Vec::new(),
        };
        plan.find_sections()?;
        if let Some(shuffle) = &config.shuffle {
            permute(&mut plan.sections, shuffle.seed);
        }
        let mut bytes = 0;
        plan.bytes_before.push(0);
        for section in &plan.sections {
            bytes += section.n_bytes;
            plan.bytes_before.push(bytes);
        }
        Ok(plan)
    }

    fn find_sections(&mut self) -> Result<()> {
        for (shard, file) in self.files.shards.iter().enumerate() {
            if self.files.format == CorpusFormat::Bin {
                // Another width is no damage.
                tokens::check_width(&file.path, self.config.token_type)?;
            }
            if self.files.format != CorpusFormat::Parquet {
                self.sections.push(Section::whole(shard, file.n_bytes));
                continue;
            }
            // A column that is not there is no damage.
            let (field, is_chat) = (self.config.field(), self.chat.is_some());
            let groups = parquet::row_groups(&file.path, field, is_chat)?;
            let groups = groups.and_then(|groups| match groups.len() {
                0 => Err(Error::file(&file.path, "content", "documents", "none")),
                _ => Ok(groups),
            });
            match groups {
                Ok(groups) => {
                    let groups = groups.into_iter().enumerate();
                    self.sections.extend(groups.map(|(group, n_bytes)| Section {
                        shard,
                        row_group: Some(group),
                        n_bytes,
                    }));
                }
                Err(error) if self.config.damaged == Damaged::Stop => return Err(error),
                Err(error) => {
                    self.skipped.count += 1;
                    if self.skipped.examples.len() < 5 {
                        self.skipped.examples.push(error.to_string());
                    }
                }
            }
        }
        Ok(())
    }

    /// The first place.
    pub(super) fn start(&self) -> DocumentPosition {
        DocumentPosition { skipped: self.skipped.count, ..DocumentPosition::default() }
    }

    /// Opens a section behind its first `skip` records.
    pub(super) fn open(&self, section: &Section, skip: u64) -> Result<Box<dyn Records>> {
        let path = &self.files.shards[section.shard].path;
        let (field, is_chat) = (self.config.field(), self.chat.is_some());
        Ok(match (self.files.format, section.row_group) {
            (CorpusFormat::Text, _) => Box::new(PlainText::new(path.clone(), skip)),
            (CorpusFormat::Jsonl, _) => {
                Box::new(jsonl::JsonLines::open(path, field, is_chat, skip)?)
            }
            (CorpusFormat::Parquet, group) => {
                parquet::open(path, group.unwrap_or(0), field, is_chat, skip)?
            }
            (CorpusFormat::Npy, _) => tokens::open_npy(path, self.document_end, skip)?,
            (CorpusFormat::Bin, _) => {
                tokens::open_bin(path, self.config.token_type, self.document_end, skip)?
            }
        })
    }

    /// The text of a chat; else what was expected of it and what came.
    pub(super) fn render(
        &self,
        messages: &[Object],
    ) -> std::result::Result<Content, (String, String)> {
        match &self.chat {
            Some(chat) => chat.render(messages),
            None => Err(("a text".to_owned(), "a chat".to_owned())),
        }
    }

    /// The share of the corpus before `within` of a section.
    pub(super) fn fraction(&self, section: usize, within: f64) -> f64 {
        let total = self.bytes_before[self.sections.len()].max(1) as f64;
        let before = self.bytes_before[section] as f64;
        let of_section = self.sections.get(section).map_or(0, |section| section.n_bytes) as f64;
        if section >= self.sections.len() { 1.0 } else { (before + of_section * within) / total }
    }

    pub(super) fn describe(&self, provenance: &mut Provenance) {
        let config = &self.config;
        let mut set = |key: &str, value: String| {
            provenance.settings.insert(key.to_owned(), value);
        };
        let (hash, covers) = &self.hash;
        set("corpus", self.names.join(", "));
        set("corpus_format", self.files.format.name().to_owned());
        let (n_files, n_bytes) = (self.files.shards.len(), self.files.n_bytes());
        set("corpus_files", format!("{n_files} files of {n_bytes} bytes"));
        set("corpus_hash", format!("{hash} of {covers}"));
        match self.files.format {
            CorpusFormat::Text => {}
            CorpusFormat::Jsonl | CorpusFormat::Parquet => {
                set("corpus_field", config.field().to_owned());
            }
            CorpusFormat::Npy | CorpusFormat::Bin => {
                let end = self.document_end.map_or("none".to_owned(), |id| id.to_string());
                set("corpus_document_end", end);
            }
        }
        if let Some(token_type) = config.token_type {
            set("corpus_token_type", token_type.name().to_owned());
        }
        if let Some(chat) = &self.chat {
            set("chat_template_hash", chat.hash());
            set("chat_roles", chat.roles());
        }
        if let Some(shuffle) = &config.shuffle {
            let settings = format!("seed {}, window {}", shuffle.seed, shuffle.window);
            set("corpus_shuffle", settings);
        }
        if let Some((split, share)) = config.parts() {
            let split = match split {
                sae_config::Split::Train => "train",
                sae_config::Split::HeldOut => "held_out",
            };
            set("corpus_split", format!("{split} with {share} held out"));
        }
        if config.damaged == Damaged::Skip {
            set("corpus_damaged", "skip".to_owned());
        }
    }
}

/// The local places of the paths, and what provenance calls them.
fn roots(config: &CorpusConfig) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let places = config.path.iter().map(|path| hub::corpus(config, path));
    let places = places.collect::<Result<Vec<_>>>()?;
    Ok(places.into_iter().map(|place| (place.path, place.name)).unzip())
}

/// Refuses settings that the format has no use for.
fn check_settings(config: &CorpusConfig, format: CorpusFormat) -> Result<()> {
    let has_fields = matches!(format, CorpusFormat::Jsonl | CorpusFormat::Parquet);
    let is_tokens = matches!(format, CorpusFormat::Npy | CorpusFormat::Bin);
    let refused = |name: &'static str, of: &str| {
        let got = format!("files of {}", format.name());
        Err(Error::input(name, format!("files of {of}"), got))
    };
    if config.field.is_some() && !has_fields {
        return refused("field", "jsonl or parquet");
    }
    if config.chat.is_some() && !has_fields {
        return refused("chat", "jsonl or parquet");
    }
    if config.document_end.is_some() && !is_tokens {
        return refused("document_end", "npy or bin");
    }
    if config.token_type.is_some() && format != CorpusFormat::Bin {
        return refused("token_type", "bin");
    }
    let most = u32::from(u16::MAX);
    if let Some(end) = config.document_end.filter(|end| *end > most)
        && config.token_type == Some(TokenType::U16)
    {
        return Err(Error::input("document_end", format!("at most {most} in files of u16"), end));
    }
    Ok(())
}

/// Puts sections in random order: Fisher-Yates with ChaCha8.
fn permute<T>(items: &mut [T], seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    super::shuffle::shuffle(items, &mut || rng.next_u64());
}

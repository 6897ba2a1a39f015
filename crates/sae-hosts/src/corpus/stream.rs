//! The documents of a corpus in the order of its sections.

use std::sync::Arc;

use sae_config::{CorpusConfig, Damaged};
use sae_data::Provenance;

use super::plan::Plan;
use super::record::{Record, Records};
use super::{Content, Document, DocumentPosition, Documents, Skipped};
use crate::tokenizer::HostTokenizer;
use crate::{Error, Result};

/// Damaged files and documents that are named; the others are counted alone.
const N_EXAMPLES: usize = 5;

/// Reads one section after another.
#[derive(Debug)]
pub(super) struct Stream {
    plan: Arc<Plan>,
    at: DocumentPosition,
    records: Option<Box<dyn Records>>,
    examples: Vec<String>,
}

impl Stream {
    pub(super) fn open(config: &CorpusConfig, tokenizer: &HostTokenizer) -> Result<Self> {
        let plan = Plan::new(config, tokenizer)?;
        let at = plan.start();
        let examples = plan.skipped.examples.clone();
        Ok(Self { plan: Arc::new(plan), at, records: None, examples })
    }

    /// The next record of the present section, or `None` at its end.
    fn record(&mut self) -> Result<Option<Result<Record>>> {
        let records = match &mut self.records {
            Some(records) => records,
            none => {
                let section = &self.plan.sections[self.at.section as usize];
                none.insert(self.plan.open(section, self.at.record)?)
            }
        };
        records.next()
    }

    /// Refuses a file that was changed since the corpus was opened, which is no damage.
    fn check_unchanged(&self) -> Result<()> {
        let section = &self.plan.sections[self.at.section as usize];
        self.plan.files.shards[section.shard].check_unchanged()
    }

    fn next_section(&mut self) {
        self.records = None;
        self.at.section += 1;
        self.at.record = 0;
    }

    /// Counts what is damaged, or fails with it.
    fn leave_out(&mut self, error: Error) -> Result<()> {
        if self.plan.config.damaged == Damaged::Stop {
            return Err(error);
        }
        self.at.skipped += 1;
        if self.examples.len() < N_EXAMPLES {
            self.examples.push(error.to_string());
        }
        Ok(())
    }

    /// The document that a record is; `None` if it is of another part of the corpus.
    fn document(&self, record: Record, number: u32) -> Result<Option<Document>> {
        if self.plan.part.is_some_and(|part| !part.has(&record)) {
            return Ok(None);
        }
        let section = &self.plan.sections[self.at.section as usize];
        let shard = &self.plan.files.shards[section.shard];
        let name = format!("{} {}", shard.name, section.place(self.at.record));
        let content = match record {
            Record::Text(text) => Content::Text(text),
            Record::Ids(ids) => Content::Ids(ids),
            Record::Chat(messages) => {
                let rendered = self.plan.render(&messages);
                rendered.map_err(|error| Error::file(&shard.path, &name, error.0, error.1))?
            }
        };
        Ok(Some(Document { number, name, content }))
    }
}

impl Documents for Stream {
    fn next(&mut self) -> Result<Option<Document>> {
        while (self.at.section as usize) < self.plan.sections.len() {
            if self.records.is_none() {
                self.check_unchanged()?;
            }
            match self.record() {
                Ok(Some(record)) => {
                    let number = self.at.number;
                    let document = record.and_then(|record| self.document(record, number));
                    self.at.record += 1;
                    self.at.number = number.checked_add(1).ok_or_else(|| {
                        Error::input("corpus", "at most 4,294,967,295 documents", "more")
                    })?;
                    match document {
                        Ok(Some(document)) => return Ok(Some(document)),
                        Ok(None) => {}
                        Err(error) => self.leave_out(error)?,
                    }
                }
                Ok(None) => {
                    self.check_unchanged()?;
                    let is_empty = self.at.record == 0;
                    let section = &self.plan.sections[self.at.section as usize];
                    let path = &self.plan.files.shards[section.shard].path;
                    let error = Error::file(path, "content", "documents", "none");
                    self.next_section();
                    if is_empty {
                        self.leave_out(error)?;
                    }
                }
                Err(error) => {
                    self.next_section();
                    self.leave_out(error)?;
                }
            }
        }
        Ok(None)
    }

    fn position(&self) -> DocumentPosition {
        self.at
    }

    fn resume(&mut self, position: &DocumentPosition) -> Result<()> {
        let start = self.plan.start();
        let position = if *position == DocumentPosition::default() { start } else { *position };
        if position.section > self.plan.sections.len() as u64 || position.taken != 0 {
            let expected = format!("a place in {} sections", self.plan.sections.len());
            return Err(Error::input("position", expected, format!("{position:?}")));
        }
        self.at = position;
        self.records = None;
        Ok(())
    }

    fn describe(&self, provenance: &mut Provenance) {
        self.plan.describe(provenance);
    }

    fn fraction(&self) -> f64 {
        let within = self.records.as_ref().map_or(0.0, |records| records.fraction());
        self.plan.fraction(self.at.section as usize, within)
    }

    fn is_last(&self) -> bool {
        self.at.section as usize >= self.plan.sections.len()
    }

    fn skipped(&self) -> Skipped {
        Skipped { count: self.at.skipped, examples: self.examples.clone() }
    }
}

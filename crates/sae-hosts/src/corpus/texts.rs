//! Texts in memory as a corpus.

use sae_data::Provenance;

use super::{Content, Document, DocumentPosition, Documents};
use crate::{Error, Result, Text};

/// Texts, each a document, in their order.
#[derive(Debug)]
pub struct Texts<'a> {
    texts: &'a [Text],
    next: usize,
}

impl<'a> Texts<'a> {
    /// The documents of some texts.
    pub fn new(texts: &'a [Text]) -> Self {
        Self { texts, next: 0 }
    }
}

impl Documents for Texts<'_> {
    fn next(&mut self) -> Result<Option<Document>> {
        let Some(text) = self.texts.get(self.next) else { return Ok(None) };
        let document = Document {
            number: self.next as u32,
            name: text.name.clone(),
            content: Content::Text(text.content.clone()),
        };
        self.next += 1;
        Ok(Some(document))
    }

    fn position(&self) -> DocumentPosition {
        DocumentPosition {
            record: self.next as u64,
            number: self.next as u32,
            ..DocumentPosition::default()
        }
    }

    fn resume(&mut self, position: &DocumentPosition) -> Result<()> {
        let next = usize::try_from(position.record).ok().filter(|next| *next <= self.texts.len());
        let place = |record, number| DocumentPosition { record, number, ..Default::default() };
        match next.filter(|next| *position == place(*next as u64, *next as u32)) {
            Some(next) => self.next = next,
            None => {
                let expected = format!("a place among {} texts", self.texts.len());
                return Err(Error::input("position", expected, format!("{position:?}")));
            }
        }
        Ok(())
    }

    fn describe(&self, provenance: &mut Provenance) {
        let hash = |text: &Text| blake3::hash(text.content.as_bytes()).to_string();
        provenance.text_hashes = self.texts.iter().map(hash).collect();
    }

    fn fraction(&self) -> f64 {
        let length = |texts: &[Text]| texts.iter().map(|text| text.content.len()).sum::<usize>();
        length(&self.texts[..self.next]) as f64 / length(self.texts).max(1) as f64
    }

    fn is_last(&self) -> bool {
        self.next >= self.texts.len()
    }
}

//! Documents in random order in bounded memory: a window of consecutive ones is held and shuffled.

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use sae_config::ShuffleConfig;
use sae_data::Provenance;

use super::{Content, Document, DocumentPosition, Documents, Skipped};
use crate::{Error, Result};

/// Bytes of documents after which a window ends, however few they are.
const WINDOW_BYTES: usize = 256 << 20;

/// The documents of another corpus, shuffled window by window.
#[derive(Debug)]
pub(super) struct Shuffled {
    inner: Box<dyn Documents>,
    seed: u64,
    most: usize,
    /// Where the present window begins.
    start: DocumentPosition,
    /// Documents taken of it.
    taken: u64,
    window: VecDeque<Document>,
    /// The share of the corpus before it.
    before: f64,
}

impl Shuffled {
    pub(super) fn new(inner: Box<dyn Documents>, config: &ShuffleConfig) -> Self {
        let start = inner.position();
        let (seed, most, before) = (config.seed, config.window, inner.fraction());
        Self { inner, seed, most, start, taken: 0, window: VecDeque::new(), before }
    }

    /// Reads and shuffles the window that begins where the inner documents are.
    fn fill(&mut self) -> Result<()> {
        self.start = self.inner.position();
        self.before = self.inner.fraction();
        self.taken = 0;
        let (mut window, mut n_bytes) = (Vec::new(), 0);
        while window.len() < self.most && n_bytes < WINDOW_BYTES {
            let Some(document) = self.inner.next()? else { break };
            n_bytes += size(&document);
            window.push(document);
        }
        // The window's first document keys its shuffle: it is known wherever reading begins.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.start.section.to_le_bytes());
        key[16..24].copy_from_slice(&self.start.record.to_le_bytes());
        key[24] = 1;
        let mut rng = ChaCha8Rng::from_seed(key);
        shuffle(&mut window, &mut || rng.next_u64());
        self.window = window.into();
        Ok(())
    }
}

impl Documents for Shuffled {
    fn next(&mut self) -> Result<Option<Document>> {
        if self.window.is_empty() {
            self.fill()?;
        }
        let document = self.window.pop_front();
        self.taken += u64::from(document.is_some());
        Ok(document)
    }

    fn position(&self) -> DocumentPosition {
        if self.window.is_empty() {
            return self.inner.position();
        }
        DocumentPosition { taken: self.taken, ..self.start }
    }

    fn resume(&mut self, position: &DocumentPosition) -> Result<()> {
        self.inner.resume(&DocumentPosition { taken: 0, ..*position })?;
        self.window.clear();
        self.taken = 0;
        self.before = self.inner.fraction();
        if position.taken > 0 {
            self.fill()?;
            let taken = usize::try_from(position.taken).unwrap_or(usize::MAX);
            if taken > self.window.len() {
                let expected = format!("at most {} documents of a window", self.window.len());
                return Err(Error::input("position", expected, position.taken));
            }
            self.window.drain(..taken);
            self.taken = position.taken;
        }
        Ok(())
    }

    fn describe(&self, provenance: &mut Provenance) {
        self.inner.describe(provenance);
    }

    fn fraction(&self) -> f64 {
        let (taken, left) = (self.taken as f64, self.window.len() as f64);
        let within = if left > 0.0 { taken / (taken + left) } else { 1.0 };
        self.before + (self.inner.fraction() - self.before) * within
    }

    fn is_last(&self) -> bool {
        self.window.is_empty() && self.inner.is_last()
    }

    fn skipped(&self) -> Skipped {
        self.inner.skipped()
    }
}

fn size(document: &Document) -> usize {
    let content = match &document.content {
        Content::Text(text) | Content::Parts { text, .. } => text.len(),
        Content::Ids(ids) => 4 * ids.len(),
    };
    content + document.name.len() + size_of::<Document>()
}

/// Fisher-Yates; each choice takes a random number in the range without bias (Lemire).
pub(super) fn shuffle<T>(items: &mut [T], random: &mut dyn FnMut() -> u64) {
    for last in (1..items.len()).rev() {
        let n = last as u64 + 1;
        let bias = n.wrapping_neg() % n;
        let chosen = loop {
            let product = u128::from(random()) * u128::from(n);
            if product as u64 >= bias {
                break (product >> 64) as usize;
            }
        };
        items.swap(last, chosen);
    }
}

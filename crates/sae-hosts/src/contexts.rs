//! Cuts texts into contexts of tokens.

use std::collections::VecDeque;

use crate::tokenizer::HostTokenizer;
use crate::{HostModel, Result, Text};

/// How texts are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Tokens of a context, the prepended one included.
    pub(crate) length: usize,
    /// A token at the front of each context.
    pub(crate) prepend: Option<u32>,
    /// Tokens of each text to take at most.
    pub(crate) max_tokens: u64,
}

/// A run of tokens of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// The document, counted from 0.
    pub(crate) document: u32,
    /// Its tokens, with the prepended one if there is one.
    pub(crate) ids: Vec<u32>,
}

/// All contexts of the texts in order, of full length but for the last of each document, which
/// holds what is left. Texts are tokenised as contexts are asked for.
pub(crate) struct Contexts<'a> {
    host: &'a HostModel,
    tokenizer: &'a HostTokenizer,
    texts: &'a [Text],
    cut: Cut,
    document: usize,
    /// What is not yet tokenised of the document.
    rest: &'a str,
    buffer: VecDeque<u32>,
    /// Tokens taken of the document.
    taken: u64,
    tokens_seen: u64,
    bytes_seen: u64,
}

impl<'a> Contexts<'a> {
    pub(crate) fn new(host: &'a HostModel, texts: &'a [Text], cut: Cut) -> Result<Self> {
        Ok(Self {
            host,
            tokenizer: host.tokenizer()?,
            texts,
            cut,
            document: 0,
            rest: texts.first().map_or("", |text| text.content.as_str()),
            buffer: VecDeque::new(),
            taken: 0,
            tokens_seen: 0,
            bytes_seen: 0,
        })
    }

    /// The next context, or `None` at the end of the texts.
    pub(crate) fn next(&mut self) -> Result<Option<Context>> {
        let wanted = self.cut.length - usize::from(self.cut.prepend.is_some());
        loop {
            let left = usize::try_from(self.cut.max_tokens - self.taken).unwrap_or(usize::MAX);
            while self.buffer.len() < wanted.min(left) && !self.rest.is_empty() {
                let before = self.rest.len();
                let ids = self.tokenizer.encode_piece(&mut self.rest)?;
                self.buffer.extend(ids);
                self.bytes_seen += (before - self.rest.len()) as u64;
            }
            let n = wanted.min(left).min(self.buffer.len());
            if n > 0 {
                self.taken += n as u64;
                self.tokens_seen += n as u64;
                let ids = self.cut.prepend.into_iter().chain(self.buffer.drain(..n));
                let ids: Vec<u32> = ids.collect();
                self.host.check_ids(&ids)?;
                return Ok(Some(Context { document: self.document as u32, ids }));
            }
            self.bytes_seen += self.rest.len() as u64;
            self.buffer.clear();
            self.taken = 0;
            self.document += 1;
            // After the last text nothing is left, also where it was cut off.
            let next = self.texts.get(self.document);
            self.rest = next.map_or("", |text| text.content.as_str());
            if next.is_none() {
                return Ok(None);
            }
        }
    }

    /// Tokens of text taken so far.
    pub(crate) fn tokens_seen(&self) -> u64 {
        self.tokens_seen
    }

    /// Tokens of text there are in all, once every text is tokenised.
    pub(crate) fn n_tokens(&self) -> Option<u64> {
        let all = self.document + 1 >= self.texts.len() && self.rest.is_empty();
        let left = (self.cut.max_tokens - self.taken).min(self.buffer.len() as u64);
        all.then_some(self.tokens_seen + left)
    }

    /// The share of the texts that is tokenised.
    pub(crate) fn fraction(&self) -> f64 {
        let total: usize = self.texts.iter().map(|text| text.content.len()).sum();
        (self.bytes_seen as f64 / total.max(1) as f64).min(1.0)
    }
}

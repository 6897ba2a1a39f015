//! Cuts texts into contexts of tokens.

use std::collections::VecDeque;

use crate::tokenizer::HostTokenizer;
use crate::{Result, Text};

/// How texts are cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Tokens of a context, the prepended one included.
    pub(crate) length: usize,
    /// A token at the front of each context.
    pub(crate) prepend: Option<u32>,
    /// Tokens of text to take at most.
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
/// holds what is left. Texts are tokenised piece by piece as contexts are asked for.
pub(crate) struct Contexts<'a> {
    tokenizer: &'a HostTokenizer,
    texts: &'a [Text],
    cut: Cut,
    document: usize,
    /// What is not yet tokenised of the document.
    rest: &'a str,
    buffer: VecDeque<u32>,
    tokens_seen: u64,
    bytes_seen: u64,
}

impl<'a> Contexts<'a> {
    pub(crate) fn new(tokenizer: &'a HostTokenizer, texts: &'a [Text], cut: Cut) -> Self {
        let rest = texts.first().map_or("", |text| text.content.as_str());
        let (buffer, tokens_seen, bytes_seen) = (VecDeque::new(), 0, 0);
        Self { tokenizer, texts, cut, document: 0, rest, buffer, tokens_seen, bytes_seen }
    }

    /// The next context, or `None` at the end of the texts or of the tokens allowed.
    pub(crate) fn next(&mut self) -> Result<Option<Context>> {
        let wanted = self.cut.length - usize::from(self.cut.prepend.is_some());
        let left = usize::try_from(self.cut.max_tokens - self.tokens_seen).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        loop {
            while self.buffer.len() < wanted && !self.rest.is_empty() {
                let before = self.rest.len();
                self.buffer.extend(self.tokenizer.encode_piece(&mut self.rest)?);
                self.bytes_seen += (before - self.rest.len()) as u64;
            }
            if !self.buffer.is_empty() {
                break;
            }
            self.document += 1;
            match self.texts.get(self.document) {
                Some(text) => self.rest = &text.content,
                None => return Ok(None),
            }
        }
        let taken = wanted.min(left).min(self.buffer.len());
        self.tokens_seen += taken as u64;
        let ids = self.cut.prepend.into_iter().chain(self.buffer.drain(..taken)).collect();
        Ok(Some(Context { document: self.document as u32, ids }))
    }

    /// Tokens of text taken so far.
    pub(crate) fn tokens_seen(&self) -> u64 {
        self.tokens_seen
    }

    /// The share of the work that is done: by tokens where they are limited, else by text.
    pub(crate) fn fraction(&self) -> f64 {
        let total: usize = self.texts.iter().map(|text| text.content.len()).sum();
        let by_text = self.bytes_seen as f64 / total.max(1) as f64;
        by_text.max(self.tokens_seen as f64 / self.cut.max_tokens as f64).min(1.0)
    }
}

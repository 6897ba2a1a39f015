//! The tokens of one document, made as they are asked for.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Context, Cut};
use crate::Result;
use crate::corpus::{Content, Document, DocumentPosition};
use crate::tokenizer::HostTokenizer;
use sae_config::Packing;

/// What is left of a document.
#[derive(Debug)]
pub(super) struct Tokens {
    number: u32,
    start: DocumentPosition,
    content: Content,
    /// How far the content is tokenised, in bytes or ids.
    at: usize,
    /// Tokens that are made and not yet taken.
    pending: VecDeque<Token>,
    taken: u64,
    /// Tokens of text that may still be made.
    left: u64,
    /// The token after the text, until it is made.
    after: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    id: u32,
    counted: bool,
    is_text: bool,
}

impl Tokens {
    pub(super) fn new(document: Document, start: DocumentPosition, cut: &Cut) -> Self {
        let separator = |id: u32| Token { id, counted: false, is_text: false };
        let is_packed = cut.packing == Packing::Packed;
        Self {
            number: document.number,
            start,
            content: document.content,
            at: 0,
            pending: cut.before.filter(|_| is_packed).map(separator).into_iter().collect(),
            taken: 0,
            left: cut.max_document_tokens,
            after: cut.after.filter(|_| is_packed),
        }
    }

    pub(super) fn start(&self) -> DocumentPosition {
        self.start
    }

    /// Tokens taken, separators included.
    pub(super) fn n_taken(&self) -> u64 {
        self.taken
    }

    /// Whether all tokens are taken.
    pub(super) fn is_over(&self) -> bool {
        self.pending.is_empty() && self.is_made()
    }

    /// Tokens of text not yet taken, once all are made.
    pub(super) fn n_left(&self) -> Option<u64> {
        let n_text = || self.pending.iter().filter(|token| token.is_text).count() as u64;
        self.is_made().then(n_text)
    }

    /// The share of the document that is made into tokens.
    pub(super) fn fraction(&self) -> f64 {
        if self.left == 0 {
            return 1.0;
        }
        match self.length() {
            0 => 1.0,
            length => self.at as f64 / length as f64,
        }
    }

    /// Leaves out the separator before the document where the context begins with it anyway.
    pub(super) fn leave_out_lead(&mut self, lead: Option<u32>) {
        let first = self.pending.front();
        if first.is_some_and(|token| !token.is_text && lead == Some(token.id)) && self.taken == 0 {
            self.pending.pop_front();
            self.taken += 1;
        }
    }

    /// Moves at most `n` tokens into a context; returns how many of them are of text.
    pub(super) fn take(
        &mut self,
        tokenizer: &HostTokenizer,
        n: usize,
        context: &mut Context,
    ) -> Result<u64> {
        self.make(tokenizer, n)?;
        let mut n_text = 0;
        for token in self.pending.drain(..n.min(self.pending.len())) {
            self.taken += 1;
            n_text += u64::from(token.is_text);
            context.ids.push(token.id);
            context.documents.push(self.number);
            context.counted.push(token.counted);
        }
        Ok(n_text)
    }

    /// Passes over the first `n` tokens; false if there are fewer.
    pub(super) fn pass(&mut self, tokenizer: &HostTokenizer, n: u64) -> Result<bool> {
        while self.taken < n {
            let wanted = usize::try_from(n - self.taken).unwrap_or(usize::MAX).min(1 << 16);
            self.make(tokenizer, wanted)?;
            let ready = wanted.min(self.pending.len());
            if ready == 0 {
                return Ok(false);
            }
            self.pending.drain(..ready);
            self.taken += ready as u64;
        }
        Ok(true)
    }

    /// Makes tokens until `n` are pending or all are made.
    fn make(&mut self, tokenizer: &HostTokenizer, n: usize) -> Result<()> {
        while self.pending.len() < n && !self.is_made() {
            if self.left == 0 || self.at == self.length() {
                let after = self.after.take();
                let separator = |id| Token { id, counted: false, is_text: false };
                self.pending.extend(after.map(separator));
                continue;
            }
            let tokens = self.piece(tokenizer)?;
            let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(tokens.len());
            self.left -= most as u64;
            self.pending.extend(&tokens[..most]);
        }
        Ok(())
    }

    /// The tokens of the next piece of the content.
    fn piece(&mut self, tokenizer: &HostTokenizer) -> Result<Vec<Token>> {
        let text_token = |id| Token { id, counted: true, is_text: true };
        match &self.content {
            Content::Text(text) => {
                let mut rest = &text[self.at..];
                let ids = tokenizer.encode_piece(&mut rest)?;
                self.at = text.len() - rest.len();
                Ok(ids.into_iter().map(text_token).collect())
            }
            Content::Ids(ids) => {
                let end = ids.len().min(self.at + (1 << 16));
                let tokens = ids[self.at..end].iter().copied().map(text_token).collect();
                self.at = end;
                Ok(tokens)
            }
            Content::Parts { text, counted } => {
                let mut rest = &text[self.at..];
                let tokens = tokenizer.encode_piece_at(&mut rest)?;
                let start = self.at;
                self.at = text.len() - rest.len();
                let is_counted = |at: Range<usize>| {
                    let (from, to) = (start + at.start, start + at.end);
                    let part = counted.partition_point(|part| part.end < to);
                    counted.get(part).is_some_and(|part| part.start <= from && to <= part.end)
                };
                let token = |(id, at)| Token { id, counted: is_counted(at), is_text: true };
                Ok(tokens.into_iter().map(token).collect())
            }
        }
    }

    /// Whether nothing is left to be made into tokens.
    fn is_made(&self) -> bool {
        (self.left == 0 || self.at == self.length()) && self.after.is_none()
    }

    fn length(&self) -> usize {
        match &self.content {
            Content::Text(text) | Content::Parts { text, .. } => text.len(),
            Content::Ids(ids) => ids.len(),
        }
    }
}

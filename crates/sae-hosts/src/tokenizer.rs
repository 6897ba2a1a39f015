//! The tokenizer of a host: from the metadata of a GGUF file, or from a `tokenizer.json`.

use std::path::Path;

use tokenizers::Tokenizer;

use crate::{Error, Result};

/// Longest piece of text given to the tokenizer at once, so that memory stays bounded.
const PIECE_BYTES: usize = 1 << 18;

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct HostTokenizer {
    inner: Tokenizer,
    bos: Option<u32>,
    adds_bos: bool,
}

impl HostTokenizer {
    /// A tokenizer, the token that starts a text if it has one, and whether the model's own
    /// tokenizer puts that before each text.
    pub(crate) fn new(inner: Tokenizer, bos: Option<u32>, adds_bos: bool) -> Self {
        Self { inner, bos, adds_bos }
    }

    /// Reads a `tokenizer.json`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let inner = Tokenizer::from_bytes(bytes)
            .map_err(|error| Error::file(path, "top level", "a tokenizer", error))?;
        Ok(Self::new(inner, None, false))
    }

    /// The token ids of a text, without any that the model puts at its front or end. A control
    /// token that the text spells out is that token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let (mut ids, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            ids.extend(self.encode_piece(&mut rest)?);
        }
        Ok(ids)
    }

    /// Takes a piece off the front of a text and returns its token ids, so that memory stays
    /// bounded and a caller can stop early.
    ///
    /// Texts are cut before a line feed that follows a letter or digit, where the patterns of
    /// byte-level tokenizers always end a word: the ids are those of the whole text.
    pub(crate) fn encode_piece(&self, text: &mut &str) -> Result<Vec<u32>> {
        let (piece, rest) = text.split_at(piece_end(text, PIECE_BYTES));
        *text = rest;
        let encoding = self.inner.encode_fast(piece, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(failed)
    }

    /// A token as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that starts a text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether the model's own tokenizer puts that token before each text.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// The ids of control tokens, sorted.
    pub fn special_ids(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special);
        let mut ids: Vec<_> = special.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// The whole tokenizer as `tokenizer.json` would hold it, for its hash.
    pub(crate) fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(failed)
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer { message: error.to_string() }
}

/// Where to cut a text: before the first line feed from `least` bytes on that follows a letter or
/// digit, or at the end.
fn piece_end(text: &str, least: usize) -> usize {
    let bytes = text.as_bytes();
    (least.max(1)..bytes.len())
        .filter(|at| bytes[*at] == b'\n')
        .find(|at| text[..*at].ends_with(char::is_alphanumeric))
        .unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_after_words_only() {
        let pieces = |mut text: &'static str| {
            let mut pieces = Vec::new();
            while !text.is_empty() {
                let (piece, rest) = text.split_at(piece_end(text, 2));
                pieces.push(piece);
                text = rest;
            }
            pieces
        };
        let text = "one\ntwo \n\nthree.\nfour\n\nfive\n";
        assert_eq!(pieces(text), ["one", "\ntwo \n\nthree.\nfour", "\n\nfive", "\n"]);
        assert_eq!(pieces("é\né"), ["é", "\né"]);
    }
}

//! The tokenizer of a host: from the metadata of a GGUF file, or from a `tokenizer.json`.

mod bos;
mod chat;
mod cuts;
mod folder;
mod json;
mod lead;
mod pieces;
#[cfg(test)]
mod properties;

use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::{Error, Result};

pub use bos::{Bos, SpecialTokens};
pub(crate) use chat::ChatSource;

/// Length of the pieces in which a text is given to the tokenizer where it can be cut, so that
/// memory stays bounded.
const PIECE_BYTES: usize = 1 << 18;

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct HostTokenizer {
    inner: Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    chat: ChatSource,
    adds_bos: bool,
    /// What makes `adds_bos` doubtful.
    dispute: Option<Dispute>,
    /// Length in bytes from which on a piece may end, if pieces may be cut.
    piece: Option<usize>,
}

/// A setting that contradicts the rest of its folder.
#[derive(Debug, Clone)]
struct Dispute {
    path: PathBuf,
    got: String,
}

impl HostTokenizer {
    /// A tokenizer without truncation and padding, its host's beginning-of-text token, and whether
    /// the host expects that token before each text.
    pub(crate) fn new(inner: Tokenizer, bos: Option<u32>, adds_bos: bool) -> Self {
        let piece = cuts::are_safe(&inner).then_some(PIECE_BYTES);
        let chat = ChatSource::default();
        Self { inner, bos, eos: None, chat, adds_bos, dispute: None, piece }
    }

    /// The same tokenizer with its host's end-of-text token and chat templates.
    pub(crate) fn with_chat(self, eos: Option<u32>, chat: ChatSource) -> Self {
        Self { eos, chat, ..self }
    }

    /// The chat templates of the host.
    pub(crate) fn chat(&self) -> &ChatSource {
        &self.chat
    }

    /// Reads a `tokenizer.json`, and the files beside it that change what it does.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] with the key that cannot be followed.
    pub fn read(path: &Path) -> Result<Self> {
        folder::read(path)
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

    /// Takes a piece off the front of a text and returns its token ids, which are those that the
    /// whole text has there. The piece is the whole text where it is not known how the tokenizer
    /// can be given parts.
    pub(crate) fn encode_piece(&self, text: &mut &str) -> Result<Vec<u32>> {
        let piece = self.take_piece(text);
        let encoding = self.inner.encode_fast(piece, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Takes a piece off the front of a text, as [`encode_piece`](Self::encode_piece) does, and
    /// returns its token ids with the bytes of the piece that each stands for.
    pub(crate) fn encode_piece_at(&self, text: &mut &str) -> Result<Vec<(u32, Range<usize>)>> {
        let piece = self.take_piece(text);
        let encoding = self.inner.encode(piece, false).map_err(failed)?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(offsets).collect())
    }

    fn take_piece<'a>(&self, text: &mut &'a str) -> &'a str {
        let end = self.piece.map_or(text.len(), |least| cuts::piece_end(text, least));
        let (piece, rest) = text.split_at(end);
        *text = rest;
        piece
    }

    /// The token that marks the beginning of a text, if the host has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that marks the end of a text, if the host has one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether the host's own tokenizer puts the [`bos`](Self::bos) token before each text.
    ///
    /// # Errors
    /// [`Error::File`] if its files contradict each other.
    pub fn adds_bos(&self) -> Result<bool> {
        match &self.dispute {
            Some(Dispute { path, got }) => {
                let expected = "a token before each text or none, beyond doubt (or say `--bos \
                                always` or `--bos never`)";
                Err(Error::file(path, "add_bos_token", expected, got))
            }
            None => Ok(self.adds_bos),
        }
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

    /// The bytes of text that a token stands for, which need not be whole characters; an added token
    /// is its own text. A leading space is part of them.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        pieces::piece(&self.inner, id)
    }

    /// The id of a token as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The ids of special tokens, sorted: control tokens, and those that a file gives a role.
    pub fn special_ids(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special);
        let mut ids: Vec<_> = special.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// The hash of the whole tokenizer as `tokenizer.json` would hold it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn hash(&self) -> Result<String> {
        let json = self.inner.to_string(false).map_err(failed)?;
        Ok(blake3::hash(json.as_bytes()).to_string())
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer { message: error.to_string() }
}

//! The tokenizer of a host: from the metadata of a GGUF file, or from a `tokenizer.json`.

mod bos;
mod cuts;
mod folder;
#[cfg(test)]
mod properties;

use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

use crate::gguf::GgufFile;
use crate::{Error, Result};

pub use bos::{Bos, SpecialTokens};

/// Length of the pieces in which a text is given to the tokenizer where it can be cut, so that
/// memory stays bounded.
const PIECE_BYTES: usize = 1 << 18;

/// `tokenizer.ggml.token_type` of control tokens such as `<|endoftext|>`.
const CONTROL: i64 = 3;
/// `tokenizer.ggml.token_type` of tokens added to the vocabulary by its user.
const USER_DEFINED: i64 = 4;

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct HostTokenizer {
    inner: Tokenizer,
    bos: Option<u32>,
    adds_bos: bool,
    /// Length in bytes from which on a piece may end, if pieces may be cut.
    piece: Option<usize>,
}

impl HostTokenizer {
    /// A tokenizer, its host's beginning-of-text token, and whether the host expects that token
    /// before each text. Truncation and padding that it may be set to are cleared.
    pub(crate) fn new(mut inner: Tokenizer, bos: Option<u32>, adds_bos: bool) -> Self {
        inner.with_truncation(None).expect("no truncation is always in range");
        inner.with_padding(None);
        let piece = cuts::are_safe(&inner).then_some(PIECE_BYTES);
        Self { inner, bos, adds_bos, piece }
    }

    /// Reads a `tokenizer.json`, and the files beside it that change what it does.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        folder::read(path)
    }

    /// Builds the byte-level BPE tokenizer that a GGUF file describes.
    pub(crate) fn from_gguf(gguf: &GgufFile) -> Result<Self> {
        let wrong =
            |key: &str, expected: &str, got: &str| Error::file(gguf.path(), key, expected, got);
        let model = gguf.string("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(wrong("tokenizer.ggml.model", "`gpt2` (byte-level BPE)", model));
        }
        // GPT-2's pattern splits words, numbers, punctuation and space; `smollm` first takes
        // every digit off on its own.
        let byte_level = ByteLevel::new(false, true, true);
        let pre_tokenizer = match gguf.string("tokenizer.ggml.pre")? {
            "gpt-2" => PreTokenizerWrapper::from(byte_level),
            "smollm" => Sequence::new(vec![Digits::new(true).into(), byte_level.into()]).into(),
            other => return Err(wrong("tokenizer.ggml.pre", "`gpt-2` or `smollm`", other)),
        };

        let strings = |key: &str| -> Result<Vec<String>> {
            let array = gguf.array(key)?;
            let strings = array.strings().ok_or_else(|| wrong(key, "strings", "other values"))?;
            Ok(strings.map(str::to_owned).collect())
        };
        let tokens = strings("tokenizer.ggml.tokens")?;
        let merges = strings("tokenizer.ggml.merges")?
            .iter()
            .map(|merge| match merge.split_once(' ') {
                Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
                None => Err(wrong("tokenizer.ggml.merges", "two tokens and a space", merge)),
            })
            .collect::<Result<Vec<_>>>()?;
        let types_key = "tokenizer.ggml.token_type";
        let types: Vec<i64> = match gguf.array(types_key)?.integers() {
            Some(types) => types.collect(),
            None => return Err(wrong(types_key, "32-bit integers", "other values")),
        };
        if types.len() != tokens.len() {
            let expected = format!("{} values, one a token", tokens.len());
            return Err(wrong(types_key, &expected, &types.len().to_string()));
        }

        let vocabulary: Vocab = tokens.iter().cloned().zip(0..).collect();
        if vocabulary.len() != tokens.len() {
            return Err(wrong("tokenizer.ggml.tokens", "distinct tokens", "a repeated one"));
        }
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .build()
            .map_err(|error| wrong("tokenizer.ggml.merges", "a BPE model", &error.to_string()))?;
        let mut inner = Tokenizer::new(bpe);
        inner.with_pre_tokenizer(Some(pre_tokenizer)).with_decoder(Some(byte_level));
        let of_type = |wanted: i64| {
            let pairs = tokens.iter().zip(&types);
            pairs.filter(move |(_, kind)| **kind == wanted).map(|(token, _)| token)
        };
        let special: Vec<_> = of_type(CONTROL).map(|t| AddedToken::from(t, true)).collect();
        let added: Vec<_> = of_type(USER_DEFINED).map(|t| AddedToken::from(t, false)).collect();
        inner.add_special_tokens(&special);
        inner.add_tokens(&added);
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

    /// Takes a piece off the front of a text and returns its token ids, which are those that the
    /// whole text has there. The piece is the whole text where it is not known how the tokenizer
    /// can be given parts.
    pub(crate) fn encode_piece(&self, text: &mut &str) -> Result<Vec<u32>> {
        let end = self.piece.map_or(text.len(), |least| cuts::piece_end(text, least));
        let (piece, rest) = text.split_at(end);
        *text = rest;
        let encoding = self.inner.encode_fast(piece, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token that marks the beginning of a text, if the host has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether the host's own tokenizer puts that token before each text.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
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

    /// The ids of special tokens, sorted: control tokens, and those that a file gives a role.
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

//! The tokenizer of a host: from the metadata of a GGUF file, or from a `tokenizer.json`.

use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

use crate::gguf::GgufFile;
use crate::{Error, Result};

/// Longest piece of text given to the tokenizer at once, so that memory stays bounded.
const PIECE_BYTES: usize = 1 << 18;

/// `tokenizer.ggml.token_type` of control tokens such as `<|endoftext|>`.
const CONTROL: i64 = 3;
/// `tokenizer.ggml.token_type` of tokens added to the vocabulary by its user.
const USER_DEFINED: i64 = 4;

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct HostTokenizer {
    inner: Tokenizer,
}

impl HostTokenizer {
    /// Reads a `tokenizer.json`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let inner = Tokenizer::from_bytes(bytes)
            .map_err(|error| Error::file(path, "top level", "a tokenizer", error))?;
        Ok(Self { inner })
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
        Ok(Self { inner })
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

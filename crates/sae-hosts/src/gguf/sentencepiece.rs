//! BPE of sentencepiece, whose files have a score for each token instead of a list of merges.
//!
//! Two neighbours merge if together they are a token, those of the highest score first. A list of
//! merges says the same: each way to make a token of two others, in the order of their scores.

use std::collections::HashSet;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::{DecoderWrapper, NormalizerWrapper, Tokenizer};

use super::keys::Keys;
use super::tokenizer::{TokenType, Vocabulary};
use crate::Result;

const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
/// What stands for a space in a token.
const SPACE: &str = "▁";

/// Builds the tokenizer of a vocabulary; `prefix` puts a space before a text.
pub(super) fn build(
    vocabulary: &mut Vocabulary,
    scores: &[f32],
    prefix: bool,
    keys: &Keys<'_>,
) -> Result<Tokenizer> {
    let n_tokens = vocabulary.tokens.len();
    if scores.len() != n_tokens {
        let expected = format!("{n_tokens} values, one a token");
        return Err(keys.wrong(SCORES, expected, scores.len()));
    }
    let bytes: HashSet<&str> = vocabulary.of_types(&[TokenType::Byte]).collect();
    if let Some(missing) = (0..=255)
        .map(|byte: u8| format!("<0x{byte:02X}>"))
        .find(|byte| !bytes.contains(byte.as_str()))
    {
        return Err(keys.wrong(
            TYPES,
            "a token of type 6 for each byte",
            format!("none for `{missing}`"),
        ));
    }
    let merges = merges(vocabulary, scores, keys)?;
    // These are found in the text itself, where spaces are spaces.
    for (token, kind) in vocabulary.tokens.iter_mut().zip(&vocabulary.types) {
        if *kind == TokenType::UserDefined {
            *token = token.replace(SPACE, " ");
        }
    }
    let ids = vocabulary.ids();
    if ids.len() != n_tokens {
        return Err(keys.wrong(TOKENS, "distinct tokens", "two that differ in `▁` and a space"));
    }
    let bpe = BPE::builder()
        .vocab_and_merges(ids, merges)
        .byte_fallback(true)
        .build()
        .map_err(|error| keys.wrong(TOKENS, "a BPE model", error))?;

    let replace = |from: &str, to: &str| Replace::new(from, to).expect("a plain text is a pattern");
    let mut normalizers: Vec<NormalizerWrapper> = vec![replace(" ", SPACE).into()];
    let mut decoders: Vec<DecoderWrapper> =
        vec![replace(SPACE, " ").into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        normalizers.insert(0, Prepend::new(SPACE.to_owned()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer
        .with_normalizer(Some(Normalizers::new(normalizers)))
        .with_decoder(Some(Decoders::new(decoders)));
    Ok(tokenizer)
}

/// Every way to make a token of two others, best score first.
///
/// Refused is what a list of merges cannot say: two tokens of one score, a token of a character
/// that is none, and an unused token that others would merge to.
fn merges(
    vocabulary: &Vocabulary,
    scores: &[f32],
    keys: &Keys<'_>,
) -> Result<Vec<(String, String)>> {
    let normal: HashSet<&str> = vocabulary.of_types(&[TokenType::Normal]).collect();
    let all: HashSet<&str> = vocabulary.tokens.iter().map(String::as_str).collect();
    let mut found: Vec<(f32, &str, usize)> = Vec::new();
    for ((token, kind), score) in vocabulary.tokens.iter().zip(&vocabulary.types).zip(scores) {
        if !matches!(kind, TokenType::Normal | TokenType::Unused) {
            continue;
        }
        if !score.is_finite() {
            return Err(keys.wrong(SCORES, "finite numbers", score));
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            // A character takes part in merges even where it is no token.
            let alone = |part: &str| part.chars().nth(1).is_none() && !all.contains(part);
            let merges = |part: &str| normal.contains(part) || alone(part);
            if !merges(left) || !merges(right) {
                continue;
            }
            if *kind == TokenType::Unused {
                return Err(keys.wrong(
                    TYPES,
                    "no unused token made of two others",
                    format!("`{token}`"),
                ));
            }
            if alone(left) || alone(right) {
                let got = format!("`{token}` without one of them");
                return Err(keys.wrong(
                    TOKENS,
                    "the characters of each token among the tokens",
                    got,
                ));
            }
            found.push((*score, token, at));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (tokens, next) = (found.iter(), found.iter().skip(1));
    if let Some((a, b)) = tokens.zip(next).find(|(a, b)| a.0 == b.0 && a.1 != b.1) {
        let got = format!("{} for both `{}` and `{}`", a.0, a.1, b.1);
        return Err(keys.wrong(SCORES, "distinct scores of tokens made of others", got));
    }
    let split = |(_, token, at): (f32, &str, usize)| {
        let (left, right) = token.split_at(at);
        (left.to_owned(), right.to_owned())
    };
    Ok(found.into_iter().map(split).collect())
}

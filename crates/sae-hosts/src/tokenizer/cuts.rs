//! Where a text can be cut so that the tokens of its pieces are those of the whole.
//!
//! A cut lies before a line feed that follows a letter or an ASCII digit. It is safe if
//!
//! - no added token holds a line feed, or takes the space to its right with it;
//! - the normaliser changes neither character (none, or NFC);
//! - the pre-tokenizer ends a word there whatever comes before and after, and does the same
//!   to a piece wherever it stands (no prefix space).
//!
//! Tokenizers of which this is not known are given whole documents.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{NormalizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// Patterns in which a run of letters or digits ends before a line feed, and which look neither
/// behind nor beyond it: those of Llama 3, Qwen2 and GPT-2.
const PATTERNS: [&str; 3] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];

/// Whether the ids of pieces are those of the whole.
pub(super) fn are_safe(tokenizer: &Tokenizer) -> bool {
    let added = tokenizer.get_added_tokens_decoder();
    let mut added = added.values();
    let normalizer = tokenizer.get_normalizer();
    added.all(|token| !token.rstrip && !token.content.contains('\n'))
        && matches!(normalizer, None | Some(NormalizerWrapper::NFC(_)))
        && tokenizer.get_pre_tokenizer().is_some_and(|pre| ends_words(pre) == Some(true))
}

/// Whether a pre-tokenizer ends a word at every cut; `None` if it may also treat pieces otherwise
/// than the whole.
fn ends_words(pre_tokenizer: &PreTokenizerWrapper) -> Option<bool> {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(bytes) if !bytes.add_prefix_space => Some(bytes.use_regex),
        // Looks at each character on its own.
        PreTokenizerWrapper::Digits(_) => Some(false),
        PreTokenizerWrapper::Split(split) => match &split.pattern {
            SplitPattern::Regex(pattern)
                if PATTERNS.contains(&pattern.as_str())
                    && split.behavior == SplitDelimiterBehavior::Isolated
                    && !split.invert =>
            {
                Some(true)
            }
            _ => None,
        },
        PreTokenizerWrapper::Sequence(parts) => {
            parts.as_ref().iter().try_fold(false, |any, part| Some(ends_words(part)? || any))
        }
        _ => None,
    }
}

/// Where to cut a text: at the first cut from `least` bytes on, or at the end.
pub(super) fn piece_end(text: &str, least: usize) -> usize {
    let bytes = text.as_bytes();
    (least.max(1)..bytes.len())
        .filter(|at| bytes[*at] == b'\n')
        .find(|at| text[..*at].ends_with(is_of_a_word))
        .unwrap_or(bytes.len())
}

/// ASCII letters and digits, and the larger blocks that are letters (`\p{L}`) throughout and that
/// NFC leaves alone.
fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c,
            'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ɏ' | 'α'..='ω' | 'Ѐ'..='ҁ' | 'ぁ'..='ゖ' | 'ァ'..='ヺ'
            | '\u{4e00}'..='\u{9fa5}' | '가'..='힣')
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
        // A letter's mark and a circled letter are no letters to the patterns.
        assert_eq!(pieces("e\u{345}\nⒶ\nx"), ["e\u{345}\nⒶ\nx"]);
    }
}

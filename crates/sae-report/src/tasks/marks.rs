//! Texts of contexts, with marks around some of their tokens.

use sae_config::{FeatureContext, TokenText};

use crate::SavedFeatures;

/// What marks may look like: the first that no text has is taken.
const MARKS: [[&str; 2]; 4] = [["<<", ">>"], ["⟦", "⟧"], ["⟪", "⟫"], ["⦃", "⦄"]];

/// A token is marked whose activation is at least this share of the context's largest.
const STRONG: f32 = 0.3;

/// Stands for tokens that the store lacks.
const GAP: &str = " […] ";

/// What stands before and after a marked stretch of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks(pub(super) [&'static str; 2]);

impl Marks {
    /// Marks that none of the texts has; the last ones where each has some.
    pub(super) fn for_texts<'a>(
        contexts: impl Iterator<Item = &'a FeatureContext>,
        pages: &SavedFeatures,
    ) -> Self {
        let texts: Vec<String> = contexts.map(|one| text(one, &[], [""; 2], pages)).collect();
        let is_free = |marks: &&[&str; 2]| {
            !texts.iter().any(|text| marks.iter().any(|mark| text.contains(mark)))
        };
        Self(*MARKS.iter().find(is_free).unwrap_or(&MARKS[MARKS.len() - 1]))
    }

    /// The text of a context, in which some tokens are marked; a character of which a token is a part
    /// is marked whole.
    pub(super) fn text(
        &self,
        context: &FeatureContext,
        is_marked: &[bool],
        pages: &SavedFeatures,
    ) -> String {
        text(context, is_marked, self.0, pages)
    }
}

fn text(
    context: &FeatureContext,
    is_marked: &[bool],
    [before, after]: [&str; 2],
    pages: &SavedFeatures,
) -> String {
    let (mut all, mut is_open) = (String::new(), false);
    let mut mark = |all: &mut String, wanted: bool| {
        if wanted != is_open {
            all.push_str(if wanted { before } else { after });
            is_open = wanted;
        }
    };
    for (bytes, is_marked, has_gap) in pieces(context, is_marked, pages) {
        if has_gap {
            mark(&mut all, false);
            all.push_str(GAP);
        }
        mark(&mut all, is_marked);
        all.push_str(&String::from_utf8_lossy(&bytes));
    }
    mark(&mut all, false);
    all
}

/// The bytes of tokens, those that are parts of one character together; whether they are marked, and
/// whether tokens before them are left out.
fn pieces(
    context: &FeatureContext,
    is_marked: &[bool],
    pages: &SavedFeatures,
) -> Vec<(Vec<u8>, bool, bool)> {
    let mut all: Vec<(Vec<u8>, bool, bool)> = Vec::new();
    for (at, token) in context.tokens.iter().enumerate() {
        let bytes = match pages.token_text(token.id) {
            Some(TokenText::Whole(text)) => text.clone().into_bytes(),
            Some(TokenText::Broken(bytes)) => bytes.clone(),
            None => pages.token(token.id).into_bytes(),
        };
        let is_marked = is_marked.get(at).copied().unwrap_or(false);
        match all.last_mut() {
            Some((last, was_marked, _)) if token.gap == 0 && is_cut_off(last) => {
                last.extend(bytes);
                *was_marked |= is_marked;
            }
            _ => all.push((bytes, is_marked, token.gap > 0)),
        }
    }
    all
}

/// Whether bytes end within a character.
fn is_cut_off(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// The tokens of strong activations.
pub(super) fn strong(context: &FeatureContext) -> Vec<bool> {
    let values = context.tokens.iter().map(|token| token.value.abs());
    let most = values.clone().fold(0.0, f32::max);
    values.map(|value| value > 0.0 && value >= STRONG * most).collect()
}

/// The token in the middle and others at random, `n` in all or as many as there are.
pub(super) fn at_random(context: &FeatureContext, n: usize, feature: u32) -> Vec<bool> {
    let mut order: Vec<usize> = (0..context.tokens.len()).collect();
    order.sort_by_cached_key(|at| (*at != context.at, hash(feature, *at as u32, context.row)));
    let mut is_marked = vec![false; context.tokens.len()];
    order.iter().take(n).for_each(|at| is_marked[*at] = true);
    is_marked
}

/// A hash of three numbers.
pub(crate) fn hash(a: u32, b: u32, c: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&a.to_le_bytes());
    hasher.update(&b.to_le_bytes());
    hasher.update(&c.to_le_bytes());
    let bytes = hasher.finalize();
    u64::from_le_bytes(bytes.as_bytes()[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use sae_config::ContextToken;

    use super::*;

    #[test]
    fn strong_tokens_have_a_share_of_the_largest() {
        let token = |value| ContextToken { value, ..ContextToken::default() };
        let of = |values: &[f32]| {
            let tokens = values.iter().map(|value| token(*value)).collect();
            strong(&FeatureContext { tokens, ..FeatureContext::default() })
        };
        assert_eq!(of(&[0.0, 0.3, 0.299, -1.0]), [false, true, false, true]);
        assert_eq!(of(&[0.0, 0.0]), [false, false]);
    }

    #[test]
    fn marks_at_random_have_the_middle_and_as_many_as_asked() {
        let tokens = vec![ContextToken::default(); 9];
        let context = |row| FeatureContext {
            row,
            at: 4,
            tokens: tokens.clone(),
            ..FeatureContext::default()
        };
        let mut others = [0; 9];
        for row in 0..400 {
            for n in [0, 1, 3, 20] {
                let found = at_random(&context(row), n, 7);
                assert_eq!(found.iter().filter(|is_marked| **is_marked).count(), n.min(9));
                assert!(n == 0 || found[4]);
                if n == 3 {
                    found.iter().zip(&mut others).for_each(|(is, n)| *n += u32::from(*is));
                }
            }
        }
        // 100 each, with a standard deviation of 9.
        others[4] = 100;
        assert!(others.iter().all(|n| (55..145).contains(n)), "{others:?}");
    }

    #[test]
    fn bytes_are_cut_off_where_a_character_is() {
        let text = "aé".as_bytes();
        assert!(is_cut_off(&text[..2]) && !is_cut_off(text) && !is_cut_off(b"a"));
        assert!(!is_cut_off(&[0x80]) && !is_cut_off(&[0xe2, b'a']) && is_cut_off(&[0xe2, 0x80]));
    }
}

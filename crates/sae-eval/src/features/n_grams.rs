//! A classifier that knows a feature by the tokens it is active on and up to two before them.

use std::collections::HashMap;

use sae_config::{ContextToken, FeatureContext};

/// Tokens of the longest n-gram.
const LONGEST: usize = 3;

/// N-grams by their tokens, the last first, padded: how often one ends in a token on which the feature
/// is active, and how often it stands there at all.
#[derive(Debug, Default)]
pub(super) struct NGrams(HashMap<[Option<u32>; LONGEST], (u32, u32)>);

impl NGrams {
    /// Learns from contexts; one of a row that came before is passed over.
    pub(super) fn of<'a>(contexts: impl Iterator<Item = &'a FeatureContext>) -> Self {
        let mut found = Self::default();
        let mut rows = Vec::new();
        for context in contexts {
            if rows.contains(&context.row) {
                continue;
            }
            rows.push(context.row);
            for end in 0..context.tokens.len() {
                let is_active = context.tokens[end].value != 0.0;
                for gram in ending_at(&context.tokens, end) {
                    let (active, all) = found.0.entry(gram).or_default();
                    *active += u32::from(is_active);
                    *all += 1;
                }
            }
        }
        found
    }

    /// Whether the feature is likely to be active on a token of a context: whether the longest known
    /// n-gram that ends in it was so more often than not.
    pub(super) fn is_active(&self, context: &FeatureContext) -> bool {
        (0..context.tokens.len()).any(|end| {
            let known = ending_at(&context.tokens, end).filter_map(|gram| self.0.get(&gram)).last();
            known.is_some_and(|(active, all)| 2 * active > *all)
        })
    }
}

/// The n-grams that end in a token, the shortest first; none reaches over tokens left out.
fn ending_at(tokens: &[ContextToken], end: usize) -> impl Iterator<Item = [Option<u32>; LONGEST]> {
    let mut gram = [None; LONGEST];
    (0..LONGEST).map_while(move |back| {
        let at = end.checked_sub(back)?;
        if back > 0 && tokens[at + 1].gap > 0 {
            return None;
        }
        gram[back] = Some(tokens[at].id);
        Some(gram)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A context of these tokens, those above 100 being active ones of 100 less.
    fn context(row: u64, ids: &[u32]) -> FeatureContext {
        let token = |id: &u32| ContextToken {
            id: id % 100,
            value: if *id > 100 { 1.5 } else { 0.0 },
            ..ContextToken::default()
        };
        FeatureContext { row, tokens: ids.iter().map(token).collect(), ..FeatureContext::default() }
    }

    #[test]
    fn the_longest_known_n_gram_decides() {
        // 7 is active after 5, and elsewhere not.
        let seen = [context(0, &[1, 5, 107]), context(1, &[2, 7, 3]), context(2, &[7, 2])];
        let twice = [&seen[0], &seen[1], &seen[2], &seen[1], &seen[2]];
        let known = NGrams::of(twice.into_iter());
        assert_eq!(known.0[&[Some(7), None, None]], (1, 3), "each row once");
        assert_eq!(known.0[&[Some(7), Some(5), Some(1)]], (1, 1));
        let is_active = |ids: &[u32]| known.is_active(&context(9, ids));
        assert!(is_active(&[9, 5, 7, 8]));
        assert!(!is_active(&[5, 9, 7]), "the unigram is active once of three times");
        assert!(!is_active(&[5]) && !is_active(&[42]) && !is_active(&[]));
        // A tie is no yes.
        let known = NGrams::of([context(0, &[107]), context(1, &[7])].iter());
        assert!(!known.is_active(&context(9, &[7])));
    }

    #[test]
    fn n_grams_end_at_gaps() {
        let mut cut = context(0, &[1, 2, 3, 4]);
        cut.tokens[2].gap = 5;
        let grams = |end| ending_at(&cut.tokens, end).map(|of| of.iter().flatten().count()).last();
        assert_eq!([0, 1, 2, 3].map(grams), [Some(1), Some(2), Some(1), Some(2)]);
    }
}

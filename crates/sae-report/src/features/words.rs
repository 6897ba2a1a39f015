//! Which features' contexts hold a word.

use std::collections::BTreeMap;

use sae_config::FeatureContext;

use super::Vocabulary;

/// Numbers of features in a file, about.
const PER_FILE: usize = 16_384;

/// Longer words are cut.
const MAX_CHARS: usize = 32;

/// Features by the words of their top contexts.
#[derive(Debug, Default)]
pub(super) struct Words(BTreeMap<String, Vec<u32>>);

impl Words {
    /// Adds the words of a context; features come in the order of their numbers.
    pub(super) fn add(&mut self, feature: u32, context: &FeatureContext, of: &Vocabulary) {
        let mut text = Vec::new();
        for token in &context.tokens {
            if token.gap > 0 {
                text.push(b' ');
            }
            text.extend_from_slice(of.piece(token.id).unwrap_or(b" "));
        }
        for word in words(&String::from_utf8_lossy(&text)) {
            let features = self.0.entry(word).or_default();
            if features.last() != Some(&feature) {
                features.push(feature);
            }
        }
    }

    /// The words in the order of JavaScript's strings, by UTF-16, cut into parts of which none is empty.
    pub(super) fn finish(self) -> Vec<Vec<(String, Vec<u32>)>> {
        let mut parts: Vec<Vec<(String, Vec<u32>)>> = Vec::new();
        let mut n = PER_FILE;
        let mut words: Vec<_> = self.0.into_iter().collect();
        words.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
        for (word, features) in words {
            if n >= PER_FILE {
                parts.push(Vec::new());
                n = 0;
            }
            n += 1 + features.len();
            parts.last_mut().expect("a part was just added").push((word, features));
        }
        parts
    }
}

/// The runs of letters and digits of a text, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let runs = text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty());
    runs.map(|run| run.to_lowercase().chars().take(MAX_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use sae_config::ContextToken;

    use super::*;

    fn context(ids: &[(u32, u32)]) -> FeatureContext {
        let token = |&(id, gap): &(u32, u32)| ContextToken { id, gap, ..ContextToken::default() };
        FeatureContext { tokens: ids.iter().map(token).collect(), ..FeatureContext::default() }
    }

    #[test]
    fn words_reach_over_tokens_and_not_over_gaps() {
        let pieces = [" Under", "stand", "ing ", "\u{e9}"].map(|text| text.as_bytes().to_vec());
        let bytes = [vec![0xc3], vec![0xa9]];
        let vocabulary = Vocabulary::new((0..).zip(pieces.into_iter().chain(bytes)), []);
        let mut found = Words::default();
        found.add(3, &context(&[(0, 0), (1, 0), (2, 0), (4, 0), (5, 0)]), &vocabulary);
        found.add(3, &context(&[(0, 0), (1, 2)]), &vocabulary);
        found.add(7, &context(&[(0, 0), (9, 0), (3, 0)]), &vocabulary);
        let parts = found.finish();
        let expected = [
            ("stand", vec![3]),
            ("under", vec![3, 7]),
            ("understanding", vec![3]),
            ("é", vec![3, 7]),
        ];
        let expected = expected.map(|(word, features)| (word.to_owned(), features));
        assert_eq!(parts, [expected.to_vec()]);
        assert_eq!(Words::default().finish().len(), 0);
    }

    #[test]
    fn parts_are_bounded() {
        let words = (0..40_000).map(|word| (format!("{word:05}"), vec![1, 2, 3]));
        let parts = Words(words.collect()).finish();
        assert_eq!(parts.len(), 10);
        assert!(parts.iter().all(|part| part.len() <= PER_FILE / 4));
    }
}

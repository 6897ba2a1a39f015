//! The texts of tokens.

use std::collections::{BTreeMap, BTreeSet};

use sae_config::TokenText;
use serde::{Deserialize, Serialize};

/// The bytes of text that tokens stand for, how their vocabulary spells those that are no whole
/// characters, and which are special.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    pieces: BTreeMap<u32, Vec<u8>>,
    spelled: BTreeMap<u32, String>,
    special: BTreeSet<u32>,
}

impl Vocabulary {
    /// A vocabulary of these tokens.
    #[must_use]
    pub fn new(
        pieces: impl IntoIterator<Item = (u32, Vec<u8>)>,
        special: impl IntoIterator<Item = u32>,
    ) -> Self {
        Self {
            pieces: pieces.into_iter().collect(),
            spelled: BTreeMap::new(),
            special: special.into_iter().collect(),
        }
    }

    /// The same, whose tokens of broken characters are spelled as `spelling` says.
    #[must_use]
    pub fn with_spelling(mut self, spelling: impl Fn(u32) -> Option<String>) -> Self {
        let broken = self.pieces.iter().filter(|(_, piece)| std::str::from_utf8(piece).is_err());
        self.spelled = broken.filter_map(|(id, _)| Some((*id, spelling(*id)?))).collect();
        self
    }

    /// The bytes of a token, where they are known.
    #[must_use]
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(&id).map(Vec::as_slice)
    }

    /// Some tokens as the page reads them.
    pub(super) fn of(&self, ids: &BTreeSet<u32>) -> Texts {
        let text = |id: &u32| self.piece(*id).map(TokenText::from);
        let spelled = |id: &u32| Some((*id, self.spelled.get(id)?.clone()));
        Texts {
            ids: ids.iter().copied().collect(),
            texts: ids.iter().map(text).collect(),
            special: ids.intersection(&self.special).copied().collect(),
            spelled: ids.iter().filter_map(spelled).collect(),
        }
    }
}

/// Tokens as the page reads them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Texts {
    /// Ascending.
    pub(crate) ids: Vec<u32>,
    /// The text of each, where it is known.
    pub(crate) texts: Vec<Option<TokenText>>,
    special: Vec<u32>,
    /// How the vocabulary spells those that are bytes.
    pub(crate) spelled: BTreeMap<u32, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn broken_characters_are_bytes() {
        let pieces = [(1, b" the".to_vec()), (2, vec![0xe2, 0x80]), (5, b"<bos>".to_vec())];
        let spelling = |id| Some(format!("spelled {id}"));
        let vocabulary = Vocabulary::new(pieces, [5]).with_spelling(spelling);
        let expected = json!({
            "ids": [1, 2, 3, 5], "texts": [" the", [0xe2, 0x80], null, "<bos>"], "special": [5],
            "spelled": {"2": "spelled 2"},
        });
        let texts = vocabulary.of(&[1, 2, 3, 5].into());
        assert_eq!(serde_json::to_value(&texts).unwrap(), expected);
        assert_eq!(serde_json::from_str::<Texts>(&expected.to_string()).unwrap(), texts);
        assert!(vocabulary.of(&[1, 3].into()).spelled.is_empty());
    }
}

//! The texts of tokens.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// The bytes of text that tokens stand for, and which of them are special.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    pieces: BTreeMap<u32, Vec<u8>>,
    special: BTreeSet<u32>,
}

impl Vocabulary {
    /// A vocabulary of these tokens.
    #[must_use]
    pub fn new(
        pieces: impl IntoIterator<Item = (u32, Vec<u8>)>,
        special: impl IntoIterator<Item = u32>,
    ) -> Self {
        Self { pieces: pieces.into_iter().collect(), special: special.into_iter().collect() }
    }

    /// The bytes of a token, where they are known.
    #[must_use]
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(&id).map(Vec::as_slice)
    }

    /// Some tokens as the page reads them: each a text, or bytes where they are not whole characters,
    /// or null where it is not known.
    pub(super) fn of(&self, ids: &BTreeSet<u32>) -> Value {
        let text = |id: &u32| {
            let piece = self.piece(*id)?;
            Some(std::str::from_utf8(piece).map_or_else(|_| json!(piece), |text| json!(text)))
        };
        let texts: Vec<Option<Value>> = ids.iter().map(text).collect();
        let special: Vec<&u32> = ids.intersection(&self.special).collect();
        json!({"ids": ids, "texts": texts, "special": special})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_characters_are_bytes() {
        let pieces = [(1, b" the".to_vec()), (2, vec![0xe2, 0x80]), (5, b"<bos>".to_vec())];
        let vocabulary = Vocabulary::new(pieces, [5]);
        let expected = json!({
            "ids": [1, 2, 3, 5], "texts": [" the", [0xe2, 0x80], null, "<bos>"], "special": [5],
        });
        assert_eq!(vocabulary.of(&[1, 2, 3, 5].into()), expected);
    }
}

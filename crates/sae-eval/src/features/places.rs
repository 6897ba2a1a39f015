//! What is known of rows besides their activations.

use sae_data::{ActivationStore, RowMeta};

use crate::Result;

/// Rows of metadata read at a time.
const AT_ONCE: usize = 1 << 16;

/// What rows are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tokens of texts.
    Tokens,
    /// Positions of pictures; each picture is a document.
    Pictures,
    /// Nothing that is known.
    Unknown,
}

/// Token, document and position of rows.
#[derive(Debug)]
pub(super) struct Places {
    /// None where they are not known.
    pub(super) meta: Option<Vec<RowMeta>>,
    pub(super) kind: Kind,
}

impl Places {
    /// Those of the rows of a store.
    pub(super) fn of_store(store: &dyn ActivationStore) -> Result<Self> {
        let mut meta = vec![RowMeta::default(); store.n_rows() as usize];
        let mut start = 0;
        for part in meta.chunks_mut(AT_ONCE) {
            match store.read_meta(start, part) {
                Err(sae_data::Error::NoMetadata { .. }) => {
                    return Ok(Self { meta: None, kind: Kind::Unknown });
                }
                other => other?,
            }
            start += part.len() as u64;
        }
        let is_of_pictures = store.provenance().is_some_and(|of| !of.image_names.is_empty());
        Ok(Self::of_rows(meta, is_of_pictures))
    }

    /// Those of rows at hand.
    pub(super) fn of_rows(meta: Vec<RowMeta>, is_of_pictures: bool) -> Self {
        // The rows of images and of planted features have places, but no tokens: all are 0.
        let kind = match meta.iter().any(|meta| meta.token_id != 0) {
            true => Kind::Tokens,
            false if is_of_pictures => Kind::Pictures,
            false => Kind::Unknown,
        };
        Self { meta: Some(meta), kind }
    }
}

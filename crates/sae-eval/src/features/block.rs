//! All activations of as many features as fit in memory.

use std::ops::Range;

use super::contexts::Activations;
use super::spool::Codes;
use crate::Result;

/// All activations of some features.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) features: Range<u32>,
    starts: Vec<usize>,
    rows: Vec<u32>,
    values: Vec<f32>,
}

/// Activations held in memory at a time, unless a single feature has more: 8 bytes each.
pub(super) const MAX_ACTIVATIONS: u64 = 32_000_000;

/// The features from `first` on that have at most `most` activations, at least one of them.
pub(super) fn fitting(of_features: &[u64], first: u32, most: u64) -> Range<u32> {
    let mut total = 0;
    let mut end = first as usize;
    while end < of_features.len() {
        total += of_features[end];
        if total > most && end > first as usize {
            break;
        }
        end += 1;
    }
    first..end as u32
}

impl Block {
    /// Reads the activations of some features.
    pub(super) fn read(codes: &Codes, features: Range<u32>) -> Result<Self> {
        let counts = &codes.counts.of_features[features.start as usize..features.end as usize];
        let mut starts = vec![0];
        starts.extend(counts.iter().scan(0, |end, count| {
            *end += *count as usize;
            Some(*end)
        }));
        let end = starts[starts.len() - 1];
        let mut next = starts.clone();
        let (mut rows, mut values) = (vec![0; end], vec![0.0; end]);
        codes.for_each_row(|row, active, with| {
            for (feature, value) in active.iter().zip(with).filter(|(f, _)| features.contains(f)) {
                let next = &mut next[(feature - features.start) as usize];
                (rows[*next], values[*next]) = (row as u32, *value);
                *next += 1;
            }
        })?;
        Ok(Self { features, starts, rows, values })
    }

    pub(super) fn of(&self, feature: u32) -> Activations<'_> {
        let at = (feature - self.features.start) as usize;
        let range = self.starts[at]..self.starts[at + 1];
        Activations { rows: &self.rows[range.clone()], values: &self.values[range] }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spool::tests::spool;
    use super::*;

    proptest! {
        /// Whatever fits at a time, a feature has all its activations in the order of the rows.
        #[test]
        fn blocks_hold_every_activation_once(
            rows in prop::collection::vec(prop::collection::btree_map(0u32..9, 0.5f32..2.0, 0..9), 1..20),
            most in 1u64..60,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let codes = spool(folder.path(), 9, &rows).finish().unwrap();
            let mut first = 0;
            while first < 9 {
                let features = fitting(&codes.counts.of_features, first, most);
                let block = Block::read(&codes, features).unwrap();
                prop_assert!(!block.features.is_empty() && block.features.start == first);
                prop_assert!(block.rows.len() as u64 <= most || block.features.len() == 1);
                for feature in block.features.clone() {
                    let active = block.of(feature);
                    let found: Vec<_> = active.rows.iter().copied().zip(active.values.iter().copied()).collect();
                    let all = (0..).zip(&rows).filter_map(|(row, of)| Some((row, *of.get(&feature)?)));
                    prop_assert_eq!(found, all.collect::<Vec<(u32, f32)>>());
                }
                first = block.features.end;
            }
        }
    }
}

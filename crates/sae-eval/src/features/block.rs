//! The activations of some features, sorted by feature.

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

impl Block {
    /// Reads the activations of as many features as fit, from `first` on.
    pub(super) fn read(codes: &Codes, first: u32, most: u64) -> Result<Self> {
        let counts = &codes.counts.of_features;
        let mut starts = vec![0];
        let mut end = 0;
        for &count in &counts[first as usize..] {
            if starts.len() > 1 && end + count > most {
                break;
            }
            end += count;
            starts.push(end as usize);
        }
        let features = first..first + (starts.len() - 1) as u32;
        let mut next = starts.clone();
        let (mut rows, mut values) = (vec![0; end as usize], vec![0.0; end as usize]);
        codes.for_each_row(|row, active, with| {
            for (feature, value) in active.iter().zip(with).filter(|(f, _)| features.contains(f)) {
                let next = &mut next[(feature - features.start) as usize];
                (rows[*next], values[*next]) = (row as u32, *value);
                *next += 1;
            }
        })?;
        Ok(Self { features, starts, rows, values })
    }

    /// The activations of one of the features.
    pub(super) fn of(&self, feature: u32) -> Activations<'_> {
        let at = (feature - self.features.start) as usize;
        let range = self.starts[at]..self.starts[at + 1];
        Activations { rows: &self.rows[range.clone()], values: &self.values[range] }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spool::Spool;
    use super::*;

    proptest! {
        /// Whatever fits at a time, a feature has all its activations in the order of the rows.
        #[test]
        fn blocks_hold_every_activation_once(
            rows in prop::collection::vec(prop::collection::btree_map(0u32..9, 0.5f32..2.0, 0..9), 1..20),
            most in 1u64..60,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut spool = Spool::new(folder.path(), 9).unwrap();
            for row in &rows {
                let (features, values): (Vec<_>, Vec<_>) = row.iter().map(|(f, v)| (*f, *v)).unzip();
                spool.append(&features, &values).unwrap();
            }
            let codes = spool.finish().unwrap();
            let mut first = 0;
            while first < 9 {
                let block = Block::read(&codes, first, most).unwrap();
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

//! Contexts to judge a description of a feature by, none of which is shown.

use std::ops::Range;

use sae_config::{Confusion, FeatureContext, HeldOut};

use super::contexts::{Activations, Rows};
use super::n_grams::NGrams;
use super::ranks::{N_QUANTILES, hash, quantile, sample};

/// Windows in the pool.
const N_POOL: usize = 1000;

/// Contexts of each fifth of the activations.
const N_ACTIVE: usize = 4;

/// Contexts without the feature.
const N_INACTIVE: usize = N_QUANTILES * N_ACTIVE;

/// Rows drawn for each that is wanted: some overlap what is shown.
const SPARE: usize = 8;

/// What tells the samples of this file from those that are shown.
const SALT: u64 = 0x5bd1_e995_7f4a_7c15;

/// Stands for the number of a feature in the sample of the pool.
const OF_POOL: u32 = u32::MAX - 1;

/// Windows drawn uniformly from a store, none of which overlaps another. Those of them that lack a
/// feature are what its contexts are told from.
#[derive(Debug)]
pub(super) struct Pool {
    /// The row in the middle of each, and the rows shown around it.
    windows: Vec<(u32, Range<usize>)>,
}

/// What is held out of a feature.
#[derive(Debug, Default)]
pub(super) struct Judging {
    pub(super) held_out: HeldOut,
    pub(super) n_gram: Option<Confusion>,
}

impl Pool {
    /// Draws windows; none where rows are not of tokens.
    pub(super) fn draw(rows: &Rows, seed: u64) -> Self {
        let mut windows: Vec<(u32, Range<usize>)> = Vec::new();
        if rows.has_tokens() {
            let all = 0..rows.n_rows() as u32;
            for row in sample(all, OF_POOL, seed ^ SALT, SPARE * N_POOL) {
                let around = rows.around(row as usize);
                if windows.len() < N_POOL && !windows.iter().any(|other| overlap(&other.1, &around)) {
                    windows.push((row, around));
                }
            }
        }
        Self { windows }
    }

    /// The windows as contexts in which nothing is active.
    pub(super) fn contexts(&self, rows: &Rows) -> Vec<FeatureContext> {
        let nothing = Activations { rows: &[], values: &[] };
        self.windows.iter().map(|(row, _)| rows.context(*row as usize, nothing)).collect()
    }

    /// What is held out of a feature whose activations by magnitude are in this order, and in which
    /// these contexts are shown.
    pub(super) fn judging(
        &self,
        rows: &Rows,
        (feature, of): (u32, Activations<'_>),
        order: &[u32],
        shown: &[&FeatureContext],
        seed: u64,
    ) -> Judging {
        if self.windows.is_empty() || order.is_empty() {
            return Judging::default();
        }
        let mut taken: Vec<_> = shown.iter().map(|of| rows.around(of.row as usize)).collect();
        let mut active = Vec::new();
        for fifth in 0..N_QUANTILES {
            let of_fifth = order[quantile(order.len(), fifth)].iter();
            let of_fifth = of_fifth.map(|at| of.rows[*at as usize]);
            let mut left = N_ACTIVE;
            for row in sample(of_fifth, feature, seed ^ SALT, SPARE * N_ACTIVE) {
                let around = rows.around(row as usize);
                let is_new = !taken.iter().any(|other| {
                    overlap(other, &around) || rows.same_tokens(other, &around)
                });
                if left > 0 && is_new {
                    taken.push(around);
                    active.push((fifth, rows.context(row as usize, of)));
                    left -= 1;
                }
            }
        }
        let mut without = self.without(feature, of, seed);
        let others = without.split_off(without.len().min(N_INACTIVE));
        let contexts = |numbers: &[u32]| -> Vec<FeatureContext> {
            let nothing = Activations { rows: &[], values: &[] };
            let row = |number: &u32| self.windows[*number as usize].0 as usize;
            numbers.iter().map(|number| rows.context(row(number), nothing)).collect()
        };
        let n_gram = (!active.is_empty() && !without.is_empty()).then(|| {
            let known = NGrams::of(shown.iter().copied().chain(&contexts(&others)));
            let mut answers = Confusion::default();
            active.iter().for_each(|(_, one)| answers.add(true, Some(known.is_active(one))));
            contexts(&without).iter().for_each(|one| {
                answers.add(false, Some(known.is_active(one)));
            });
            answers
        });
        Judging { held_out: HeldOut { active, inactive: without }, n_gram }
    }

    /// Windows without a feature in an order of its own: those to judge by, then as many to learn from.
    fn without(&self, feature: u32, of: Activations<'_>, seed: u64) -> Vec<u32> {
        let numbers = 0..self.windows.len() as u32;
        let mut keys: Vec<_> = numbers.map(|n| (hash(seed ^ SALT, feature, n), n)).collect();
        keys.sort_unstable();
        let numbers = keys.into_iter().map(|key| key.1);
        let lacks = |number: &u32| !of.touches(&self.windows[*number as usize].1);
        numbers.filter(lacks).take(2 * N_INACTIVE).collect()
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_overlap_where_they_share_a_row(
            a in 0usize..9, b in 0usize..9, n in 1usize..5, m in 1usize..5,
        ) {
            let (one, other) = (a..a + n, b..b + m);
            let shares = one.clone().any(|row| other.contains(&row));
            prop_assert_eq!(overlap(&one, &other), shares);
        }
    }
}

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

/// Windows drawn uniformly from a store, none of which overlaps another or has the same tokens. Those of
/// them that lack a feature are what its contexts are told from.
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
                let is_new = windows.iter().all(|(_, other)| apart(rows, other, &around));
                if windows.len() < N_POOL && is_new {
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
                let is_new = taken.iter().all(|other| apart(rows, other, &around));
                if left > 0 && is_new {
                    taken.push(around);
                    active.push((fifth, rows.context(row as usize, of)));
                    left -= 1;
                }
            }
        }
        let is_new = |window: &Range<usize>| taken.iter().all(|of| apart(rows, of, window));
        let mut without = self.without((feature, of), is_new, seed);
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

    /// New windows without a feature in an order of its own: those to judge by, then as many to learn
    /// from.
    fn without(
        &self,
        (feature, of): (u32, Activations<'_>),
        is_new: impl Fn(&Range<usize>) -> bool,
        seed: u64,
    ) -> Vec<u32> {
        let numbers = 0..self.windows.len() as u32;
        let mut keys: Vec<_> = numbers.map(|n| (hash(seed ^ SALT, feature, n), n)).collect();
        keys.sort_unstable();
        let numbers = keys.into_iter().map(|key| key.1);
        let fits = |number: &u32| {
            let window = &self.windows[*number as usize].1;
            !of.touches(window) && is_new(window)
        };
        numbers.filter(fits).take(2 * N_INACTIVE).collect()
    }
}

/// Whether two stretches of rows share no row and have other tokens.
fn apart(rows: &Rows, a: &Range<usize>, b: &Range<usize>) -> bool {
    !overlap(a, b) && !rows.same_tokens(a, b)
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sae_data::RowMeta;

    use super::super::places::Places;
    use super::super::ranks::by_magnitude;
    use super::*;

    const N_ROWS: u32 = 2400;

    fn token(row: u32, kinds: u32) -> u32 {
        1 + (row.wrapping_mul(2_654_435_761) >> 16) % kinds
    }

    /// Contexts of twelve tokens, of which few are different.
    fn rows(kinds: u32) -> Rows {
        let meta = |row: u32| RowMeta {
            token_id: token(row, kinds),
            document: row / 12,
            position: row % 12,
        };
        let places = Places::of_rows((0..N_ROWS).map(meta).collect(), false);
        Rows::new(places, vec![1.0; N_ROWS as usize], 1.0, 2)
    }

    proptest! {
        #[test]
        fn ranges_overlap_where_they_share_a_row(
            a in 0usize..9, b in 0usize..9, n in 1usize..5, m in 1usize..5,
        ) {
            let (one, other) = (a..a + n, b..b + m);
            let shares = one.clone().any(|row| other.contains(&row));
            prop_assert_eq!(overlap(&one, &other), shares);
        }

        #[test]
        fn what_is_held_out_is_shown_nowhere(
            every in 2u32..400, kinds in 3u32..50, seed in 0u64..3, feature in 0u32..9,
        ) {
            let rows = rows(kinds);
            let active: Vec<u32> = (0..N_ROWS).filter(|row| (row * 7 + row / 50) % every == 0).collect();
            let values: Vec<f32> = active.iter().map(|row| 1.0 + (row % 97) as f32).collect();
            let of = Activations { rows: &active, values: &values };
            let order = by_magnitude(&values);
            let shown = rows.apart(order.iter().map(|at| active[*at as usize]), 10);
            let shown: Vec<FeatureContext> =
                shown.into_iter().map(|row| rows.context(row as usize, of)).collect();
            let pool = Pool::draw(&rows, seed);
            prop_assert!(pool.windows.len() <= N_POOL);
            // Of what was drawn nothing is left out but what is there already.
            for row in sample(0..N_ROWS, OF_POOL, seed ^ SALT, SPARE * N_POOL) {
                let around = rows.around(row as usize);
                let is_there = |(_, other): &(u32, Range<usize>)| !apart(&rows, other, &around);
                prop_assert!(pool.windows.len() == N_POOL || pool.windows.iter().any(is_there));
            }
            let shown: Vec<&FeatureContext> = shown.iter().collect();
            let Judging { held_out, n_gram } = pool.judging(&rows, (feature, of), &order, &shown, seed);

            let mut taken: Vec<_> = shown.iter().map(|of| rows.around(of.row as usize)).collect();
            for (fifth, found) in &held_out.active {
                let row = found.row as u32;
                let at = active.binary_search(&row).unwrap();
                let rank = order.iter().position(|of| *of as usize == at).unwrap();
                prop_assert!(quantile(order.len(), *fifth).contains(&rank));
                let around = rows.around(row as usize);
                prop_assert!(taken.iter().all(|of| !overlap(of, &around) && !rows.same_tokens(of, &around)));
                prop_assert_eq!(found, &rows.context(row as usize, of));
                taken.push(around);
            }
            for fifth in 0..N_QUANTILES {
                let n = held_out.active.iter().filter(|found| found.0 == fifth).count();
                prop_assert!(n <= N_ACTIVE);
            }
            let fits = |window: &Range<usize>| {
                active.iter().all(|row| !window.contains(&(*row as usize)))
                    && taken.iter().all(|of| !overlap(of, window) && !rows.same_tokens(of, window))
            };
            let n_without = pool.windows.iter().filter(|(_, window)| fits(window)).count();
            prop_assert_eq!(held_out.inactive.len(), n_without.min(N_INACTIVE));
            for number in &held_out.inactive {
                prop_assert!(fits(&pool.windows[*number as usize].1));
            }
            let n_active = held_out.active.len();
            prop_assert_eq!(n_gram.is_some(), n_active > 0 && n_without > 0);
            if let Some(found) = n_gram {
                let of_active = found.true_positives + found.false_negatives;
                let of_others = found.false_positives + found.true_negatives;
                prop_assert_eq!(of_active as usize, n_active);
                prop_assert_eq!(of_others as usize, held_out.inactive.len());
            }
        }
    }

    #[test]
    fn windows_of_the_pool_do_not_overlap_and_come_from_everywhere() {
        let rows = rows(40);
        let pool = Pool::draw(&rows, 7);
        for (number, (row, window)) in pool.windows.iter().enumerate() {
            assert_eq!(rows.around(*row as usize), *window);
            let others = &pool.windows[..number];
            assert!(
                others.iter().all(|(_, other)| {
                    !overlap(other, window) && !rows.same_tokens(other, window)
                })
            );
        }
        let third = |n: u32| pool.windows.iter().filter(|of| of.0 / 800 == n).count();
        assert!((0..3).all(|n| third(n) > pool.windows.len() / 5));
        assert_eq!(pool.contexts(&rows).len(), pool.windows.len());
        assert_ne!(Pool::draw(&rows, 8).windows, pool.windows);
    }

    #[test]
    fn a_token_that_decides_is_told_by_its_n_gram() {
        let rows = rows(40);
        // Active on one token and nowhere else.
        let active: Vec<u32> = (0..N_ROWS).filter(|row| token(*row, 40) == 5).collect();
        let values = vec![1.0; active.len()];
        let (of, order) = (Activations { rows: &active, values: &values }, by_magnitude(&values));
        let shown = rows.apart(active.iter().copied(), 10);
        let shown: Vec<FeatureContext> =
            shown.into_iter().map(|row| rows.context(row as usize, of)).collect();
        let shown: Vec<&FeatureContext> = shown.iter().collect();
        let found = Pool::draw(&rows, 0).judging(&rows, (3, of), &order, &shown, 0).n_gram;
        assert_eq!(found.and_then(|of| of.balanced_accuracy()), Some(1.0));
    }
}

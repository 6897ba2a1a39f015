//! Which rows get how many features: by position, document, frequency of the token and error, and the
//! texts that get fewest and most.

use std::collections::{BTreeMap, HashMap};

use sae_config::{Profile, Spent, SpentText, TokenText};
use sae_data::{ActivationStore, RowMeta};
use tch::Kind;

use crate::metrics::to_f64s;
use crate::{EvalBatch, Observer, Result};

/// Rows of metadata read at a time.
const AT_ONCE: usize = 1 << 16;

/// Documents that are told apart at most.
const MAX_DOCUMENTS: usize = 16;

/// Groups by error and by loss.
const N_GROUPS: usize = 10;

/// Rows of a text that is shown; a stretch of fewer is not.
const N_SHOWN: usize = 48;

/// Texts of each kind.
const N_TEXTS: usize = 3;

/// Keeps of each row how many features it gets and how well it is rebuilt: 16 bytes.
#[derive(Debug, Default)]
pub struct ProfileObserver {
    l0: Vec<f32>,
    k_hat: Vec<f32>,
    /// ‖x − x̂‖².
    errors: Vec<f32>,
    /// ‖x‖².
    squares: Vec<f32>,
}

impl Observer for ProfileObserver {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        let exact = batch.target.f_to_kind(Kind::Double)?;
        let square = |of: &tch::Tensor| -> Result<Vec<f32>> {
            let sums = of.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, None)?;
            Ok(to_f64s(&sums)?.into_iter().map(|sum| sum as f32).collect())
        };
        self.squares.extend(square(&exact)?);
        self.errors.extend(square(&exact.f_sub(&batch.x_hat.f_to_kind(Kind::Double)?)?)?);
        self.l0.extend(batch.features.l0()?.into_iter().map(|l0| l0 as f32));
        if let Some(k_hat) = batch.k_hat {
            self.k_hat.extend(to_f64s(k_hat)?.into_iter().map(|k| k as f32));
        }
        Ok(())
    }
}

impl ProfileObserver {
    /// What was found in a pass over `store`, with texts where `piece` gives the bytes of tokens.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data).
    pub fn finish(
        self,
        store: &dyn ActivationStore,
        piece: Option<&dyn Fn(u32) -> Option<Vec<u8>>>,
    ) -> Result<Profile> {
        let meta = read_meta(store, self.l0.len())?;
        let relative = |(error, square): (&f32, &f32)| match *square > 0.0 {
            true => f64::from(*error) / f64::from(*square),
            false => f64::NAN,
        };
        let relative: Vec<f64> = self.errors.iter().zip(&self.squares).map(relative).collect();
        let by_error = tenths(&relative).into_iter().map(|rows| {
            let bound = |row: Option<&u32>| row.map_or(0.0, |row| relative[*row as usize]);
            self.spent(&rows, bound(rows.first()), bound(rows.last()))
        });
        let mut profile = Profile { by_error: by_error.collect(), ..Profile::default() };
        let Some(meta) = meta else { return Ok(profile) };
        profile.by_position = self.by_power(meta.iter().map(|meta| meta.position));
        profile.by_document = self.by_document(&meta);
        // The rows of images and of planted features have places, but no tokens: all are 0.
        if meta.iter().any(|meta| meta.token_id != 0) {
            let mut counts: HashMap<u32, u32> = HashMap::new();
            meta.iter().for_each(|meta| *counts.entry(meta.token_id).or_default() += 1);
            profile.by_frequency = self.by_power(meta.iter().map(|meta| counts[&meta.token_id]));
            if let Some(piece) = piece {
                [profile.fewest, profile.most] = self.texts(&meta, piece);
            }
        }
        Ok(profile)
    }

    /// Rows in groups of numbers between powers of two.
    fn by_power(&self, numbers: impl Iterator<Item = u32>) -> Vec<Spent> {
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, number) in (0..).zip(numbers) {
            groups.entry(u32::BITS - number.leading_zeros()).or_default().push(row);
        }
        let spent = |(bits, rows): (u32, Vec<u32>)| {
            let from = if bits == 0 { 0.0 } else { 2f64.powi(bits as i32 - 1) };
            self.spent(&rows, from, 2f64.powi(bits as i32) - 1.0)
        };
        groups.into_iter().map(spent).collect()
    }

    fn by_document(&self, meta: &[RowMeta]) -> Vec<Spent> {
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, meta) in (0..).zip(meta) {
            groups.entry(meta.document).or_default().push(row);
            if groups.len() > MAX_DOCUMENTS {
                return Vec::new();
            }
        }
        let spent =
            |(document, rows): (u32, Vec<u32>)| self.spent(&rows, document.into(), document.into());
        groups.into_iter().map(spent).collect()
    }

    fn spent(&self, rows: &[u32], from: f64, to: f64) -> Spent {
        let sum = |of: &[f32]| rows.iter().map(|row| f64::from(of[*row as usize])).sum::<f64>();
        let n = rows.len() as f64;
        let squares = sum(&self.squares);
        Spent {
            from,
            to,
            n: rows.len() as u64,
            l0: sum(&self.l0) / n,
            k_hat: (!self.k_hat.is_empty()).then(|| sum(&self.k_hat) / n),
            error: (squares > 0.0).then(|| sum(&self.errors) / squares),
        }
    }

    /// The texts that get fewest features, and those that get most; none where all rows get as many.
    fn texts(
        &self,
        meta: &[RowMeta],
        piece: &dyn Fn(u32) -> Option<Vec<u8>>,
    ) -> [Vec<SpentText>; 2] {
        let values = if self.k_hat.is_empty() { &self.l0 } else { &self.k_hat };
        if values.iter().all(|value| *value == values[0]) {
            return [Vec::new(), Vec::new()];
        }
        let mean = |start: usize| {
            let all = &values[start..start + N_SHOWN];
            all.iter().map(|value| f64::from(*value)).sum::<f64>() / N_SHOWN as f64
        };
        let mut found: Vec<(f64, usize)> =
            starts(meta).into_iter().map(|start| (mean(start), start)).collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let n = N_TEXTS.min(found.len() / 2);
        let text = |&(mean, start): &(f64, usize)| {
            let rows = start..start + N_SHOWN;
            let token = |meta: &RowMeta| piece(meta.token_id).map(|text| TokenText::from(&*text));
            SpentText {
                document: meta[start].document,
                position: meta[start].position,
                mean,
                tokens: meta[rows.clone()].iter().map(token).collect(),
                values: values[rows].to_vec(),
            }
        };
        [found.iter().take(n).map(text).collect(), found.iter().rev().take(n).map(text).collect()]
    }
}

/// Where stretches of rows of one context begin that are long enough to be shown and do not overlap.
fn starts(meta: &[RowMeta]) -> Vec<usize> {
    let (mut starts, mut start) = (Vec::new(), 0);
    for at in 0..meta.len() {
        let follows = at > start
            && meta[at - 1].document == meta[at].document
            && meta[at - 1].position < meta[at].position;
        if !follows {
            start = at;
        }
        if at + 1 - start == N_SHOWN {
            starts.push(start);
            start = at + 1;
        }
    }
    starts
}

/// What a store knows of its rows; none where it knows nothing.
fn read_meta(store: &dyn ActivationStore, n_rows: usize) -> Result<Option<Vec<RowMeta>>> {
    let mut meta = vec![RowMeta::default(); n_rows];
    let mut start = 0;
    for part in meta.chunks_mut(AT_ONCE) {
        match store.read_meta(start, part) {
            Err(sae_data::Error::NoMetadata { .. }) => return Ok(None),
            other => other?,
        }
        start += part.len() as u64;
    }
    Ok(Some(meta))
}

/// The places of values in ten groups of equal size, the smallest values first; NaN is left out, and
/// there are none of fewer than ten.
pub(crate) fn tenths(values: &[f64]) -> Vec<Vec<u32>> {
    let mut places: Vec<u32> = (0..).take(values.len()).collect();
    places.retain(|at| !values[*at as usize].is_nan());
    if places.len() < N_GROUPS {
        return Vec::new();
    }
    places.sort_by(|a, b| values[*a as usize].total_cmp(&values[*b as usize]));
    let end = |number: usize| places.len() * number / N_GROUPS;
    (0..N_GROUPS).map(|number| places[end(number)..end(number + 1)].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tenths_are_equal_ordered_and_whole(
            values in prop::collection::vec(prop_oneof![9 => -3.0f64..3.0, 1 => Just(f64::NAN)], 0..90),
        ) {
            let groups = tenths(&values);
            let n = values.iter().filter(|value| !value.is_nan()).count();
            prop_assert_eq!(groups.len(), if n < 10 { 0 } else { 10 });
            let sizes = n / 10..=n.div_ceil(10);
            prop_assert!(groups.iter().all(|group| sizes.contains(&group.len())));
            let all: Vec<f64> = groups.concat().iter().map(|at| values[*at as usize]).collect();
            prop_assert!(all.is_sorted());
            prop_assert!(groups.is_empty() || all.len() == n);
        }

        #[test]
        fn stretches_stay_in_their_context_and_do_not_overlap(
            lengths in prop::collection::vec(1u32..120, 1..6),
        ) {
            let mut meta = Vec::new();
            for (document, &length) in (0..).zip(&lengths) {
                // The second half of a document is a context of its own.
                let position = |at: u32| if at < length / 2 { at } else { at - length / 2 };
                let of = |at| RowMeta { token_id: 1, document, position: position(at) };
                meta.extend((0..length).map(of));
            }
            let found = starts(&meta);
            let halves = lengths.iter().flat_map(|length| [length / 2, length - length / 2]);
            let expected: u32 = halves.map(|half| half / N_SHOWN as u32).sum();
            prop_assert_eq!(found.len() as u32, expected);
            for (at, &start) in found.iter().enumerate() {
                let rows = &meta[start..start + N_SHOWN];
                prop_assert!(rows.iter().all(|row| row.document == rows[0].document));
                prop_assert!(rows.windows(2).all(|pair| pair[0].position + 1 == pair[1].position));
                prop_assert!(at == 0 || found[at - 1] + N_SHOWN <= start);
            }
        }
    }

    #[test]
    fn numbers_are_grouped_between_powers_of_two() {
        let observer = ProfileObserver {
            l0: vec![1.0, 2.0, 3.0, 4.0, 5.0],
            k_hat: Vec::new(),
            errors: vec![1.0, 0.0, 0.0, 2.0, 4.0],
            squares: vec![2.0, 0.0, 1.0, 3.0, 4.0],
        };
        let spent = |from, to, n, l0, error| Spent { from, to, n, l0, k_hat: None, error };
        assert_eq!(
            observer.by_power([0, 1, 2, 3, 9].into_iter()),
            [
                spent(0.0, 0.0, 1, 1.0, Some(0.5)),
                spent(1.0, 1.0, 1, 2.0, None),
                spent(2.0, 3.0, 2, 3.5, Some(0.5)),
                spent(8.0, 15.0, 1, 5.0, Some(1.0)),
            ]
        );
    }
}

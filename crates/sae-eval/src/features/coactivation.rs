//! Which features are active in the same rows.

use sae_config::Neighbor;

use super::contexts::Activations;
use super::largest::Largest;
use super::ranks::hash;
use super::spool::{Codes, Counts};
use crate::Result;

/// Codes held in memory at most: 8 bytes each. Of more, rows are sampled.
const MAX_CODES: f64 = 64e6;

/// Pairs of codes of one row that are gone through at most. Of more, rows are sampled.
const MAX_PAIRS: f64 = 1.6e10;

/// A variance below this share of the mean square is rounding.
const LEAST_VARIANCE: f64 = 1e-10;

/// The codes of all rows, or of a uniform sample of them.
#[derive(Debug)]
pub(super) struct Coactivation {
    /// Where the codes of each row begin; a row that is not sampled has none.
    starts: Vec<usize>,
    features: Vec<u32>,
    values: Vec<f32>,
    n_rows: u64,
    /// Rows of each feature, Σ and Σ² of its activations in them.
    sums: Vec<(u32, f64, f64)>,
}

/// Sums over the rows of a feature, one for each other feature.
#[derive(Debug)]
pub(super) struct Sums {
    products: Vec<f64>,
    together: Vec<u32>,
    touched: Vec<u32>,
}

/// The features whose activity goes with that of one.
#[derive(Debug)]
pub(super) struct Near {
    pub(super) pearson: Vec<Neighbor>,
    /// Cosine of activations with each of `pearson`.
    pub(super) cosine: Vec<f32>,
    pub(super) jaccard: Vec<Neighbor>,
}

impl Sums {
    pub(super) fn new(n_features: usize) -> Self {
        let (products, together) = (vec![0.0; n_features], vec![0; n_features]);
        Self { products, together, touched: Vec::new() }
    }
}

/// The share of rows that bounds on memory and time leave.
fn share(counts: &Counts) -> f64 {
    let share = |bound: f64, n: f64| if n > bound { bound / n } else { 1.0 };
    share(MAX_CODES, counts.n_codes as f64).min(share(MAX_PAIRS, counts.n_pairs))
}

impl Coactivation {
    /// Takes all rows, or as many of them as bounds on memory and time leave.
    pub(super) fn read(codes: &Codes, seed: u64) -> Result<Self> {
        Self::sampled(codes, seed, share(&codes.counts))
    }

    fn sampled(codes: &Codes, seed: u64, share: f64) -> Result<Self> {
        let counts = &codes.counts;
        let n_features = counts.of_features.len();
        let expected = (share * counts.n_codes as f64) as usize;
        let mut sample = Self {
            starts: Vec::with_capacity(counts.n_rows as usize + 1),
            features: Vec::with_capacity(expected),
            values: Vec::with_capacity(expected),
            n_rows: 0,
            sums: vec![(0, 0.0, 0.0); n_features],
        };
        let limit = (share * u64::MAX as f64) as u64;
        codes.for_each_row(|row, features, values| {
            sample.starts.push(sample.features.len());
            if share < 1.0 && hash(seed, u32::MAX, row as u32) >= limit {
                return;
            }
            sample.n_rows += 1;
            sample.features.extend_from_slice(features);
            sample.values.extend_from_slice(values);
            for (&feature, &value) in features.iter().zip(values) {
                let (n, sum, squares) = &mut sample.sums[feature as usize];
                *n += 1;
                *sum += f64::from(value);
                *squares += f64::from(value) * f64::from(value);
            }
        })?;
        sample.starts.push(sample.features.len());
        Ok(sample)
    }

    /// Rows that are gone through.
    pub(super) fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// The `most` features of highest correlation with a feature, the cosines of activations with
    /// these, and the features that share most rows with it, of those that are active in a row with it.
    pub(super) fn nearest(
        &self,
        feature: u32,
        of: Activations<'_>,
        sums: &mut Sums,
        most: usize,
    ) -> Near {
        for (&row, &value) in of.rows.iter().zip(of.values) {
            let codes = self.starts[row as usize]..self.starts[row as usize + 1];
            for (&other, &its) in self.features[codes.clone()].iter().zip(&self.values[codes]) {
                let at = other as usize;
                if sums.together[at] == 0 {
                    sums.touched.push(other);
                }
                sums.together[at] += 1;
                sums.products[at] += f64::from(value) * f64::from(its);
            }
        }
        sums.touched.sort_unstable();
        let (mut pearson, mut jaccard) = (Largest::new(most), Largest::new(most));
        for other in sums.touched.drain(..) {
            let at = other as usize;
            let (together, product) = (sums.together[at], sums.products[at]);
            (sums.together[at], sums.products[at]) = (0, 0.0);
            if other == feature {
                continue;
            }
            let either = self.sums[feature as usize].0 + self.sums[at].0 - together;
            jaccard.add(other, (f64::from(together) / f64::from(either)) as f32);
            if let Some(correlation) = self.correlation(feature as usize, at, product) {
                pearson.add(other, correlation as f32);
            }
        }
        let list = |found: Largest| -> Vec<Neighbor> {
            let found = found.finish().into_iter();
            found.map(|(feature, value)| Neighbor { feature, value }).collect()
        };
        let pearson = list(pearson);
        let cosine = |near: &Neighbor| {
            self.cosine(feature as usize, near.feature as usize, near.value.into()) as f32
        };
        Near { cosine: pearson.iter().map(cosine).collect(), pearson, jaccard: list(jaccard) }
    }

    /// The cosine of the activations of two features of this correlation.
    fn cosine(&self, a: usize, b: usize, correlation: f64) -> f64 {
        let n = self.n_rows as f64;
        let moments = |at: usize| {
            let (_, sum, squares) = self.sums[at];
            (sum, (squares - sum * sum / n).sqrt(), squares)
        };
        let ((sum_a, deviation_a, squares_a), (sum_b, deviation_b, squares_b)) =
            (moments(a), moments(b));
        let product = correlation * deviation_a * deviation_b + sum_a * sum_b / n;
        (product / (squares_a * squares_b).sqrt()).clamp(-1.0, 1.0)
    }

    /// Pearson's correlation over all rows gone through, zeros included; none where one of the two
    /// does not vary.
    fn correlation(&self, a: usize, b: usize, product: f64) -> Option<f64> {
        let n = self.n_rows as f64;
        let variance = |at: usize| {
            let (_, sum, squares) = self.sums[at];
            let variance = squares - sum * sum / n;
            (variance > LEAST_VARIANCE * squares).then_some(variance)
        };
        let covariance = product - self.sums[a].1 * self.sums[b].1 / n;
        Some((covariance / (variance(a)? * variance(b)?).sqrt()).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use sae_data::RowMeta;

    use super::super::spool::{Row, Spool};
    use super::*;

    #[test]
    fn bounds_leave_a_share_of_the_rows() {
        let counts = |n_codes, n_pairs| Counts { n_rows: 9, n_codes, n_pairs, of_features: vec![] };
        assert_eq!(share(&counts(64_000_000, 1.6e10)), 1.0);
        assert_eq!(share(&counts(128_000_000, 1.6e10)), 0.5);
        assert_eq!(share(&counts(128_000_000, 1.6e11)), 0.1);
    }

    /// Of a sample, numbers are those of the rows in it; and about as many rows are in it.
    #[test]
    fn a_sample_is_treated_as_all_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 3, |_, _| ()).unwrap();
        let of = |row: u64| -> Vec<u32> {
            (0..3).filter(|feature| !hash(3, *feature, row as u32).is_multiple_of(3)).collect()
        };
        for row in 0..4000 {
            let features = of(row);
            let row = Row::new(1.0, None, RowMeta::default());
            spool.append(row, &features, &vec![1.0; features.len()]).unwrap();
        }
        let codes = spool.finish().unwrap();
        let sample = Coactivation::sampled(&codes, 5, 0.25).unwrap();
        // The standard deviation is 27.
        assert!((880..1120).contains(&sample.n_rows()), "{}", sample.n_rows());
        let is_in = |row: &u64| hash(5, u32::MAX, *row as u32) < 1 << 62;
        let has = |row: &u64, feature| of(*row).contains(&feature);
        let sampled: Vec<u64> = (0..4000).filter(is_in).collect();
        assert_eq!(sample.n_rows() as usize, sampled.len());
        let count = |found: &dyn Fn(&u64) -> bool| sampled.iter().filter(|row| found(row)).count();
        let (both, either) =
            (count(&|row| has(row, 0) && has(row, 1)), count(&|row| has(row, 0) || has(row, 1)));
        let all: Vec<u32> = (0..4000).filter(|row| has(&u64::from(*row), 0)).collect();
        let active = Activations { rows: &all, values: &vec![1.0; all.len()] };
        let Near { jaccard, .. } = sample.nearest(0, active, &mut Sums::new(3), 2);
        let found = jaccard.iter().find(|found| found.feature == 1).unwrap();
        assert_eq!(found.value, (both as f64 / either as f64) as f32);
    }
}

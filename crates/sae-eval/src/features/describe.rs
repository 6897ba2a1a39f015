//! All that is said of each feature, some features at a time.

use std::ops::Range;

use rayon::prelude::*;
use sae_config::{FeatureContext, FeatureKHat, FeatureRecord, Quantile};
use sae_hosts::HostModel;
use sae_models::Sae;

use super::block::{Block, MAX_ACTIVATIONS, fitting};
use super::coactivation::{Coactivation, Sums};
use super::contexts::Rows;
use super::decoder::Decoder;
use super::held_out::{Judging, Pool};
use super::places::Places;
use super::ranks::{N_QUANTILES, by_magnitude, histogram, quantile, sample};
use super::spool::Codes;
use super::{DescribeOptions, FeatureObserver, KHat, median};
use crate::{Error, Result};

/// Features described at a time.
const AT_ONCE: u32 = 256;

/// Contexts of the largest activations.
const N_TOP: usize = 20;

/// Contexts of each fifth of the activations.
const N_OF_QUANTILE: usize = 5;

/// Neighbours listed.
const N_NEIGHBORS: usize = 10;

/// Describes the features of an SAE in the order of their numbers.
#[derive(Debug)]
pub struct FeatureDescriber<'a> {
    activity: Activity,
    decoder: Decoder,
    host: Option<&'a HostModel>,
    median: f64,
    /// The first feature that is not described yet.
    next: u32,
    /// Features whose activations are read at once, of which it is one.
    block: Range<u32>,
}

/// When features are active; threads may share it.
#[derive(Debug)]
struct Activity {
    codes: Codes,
    rows: Rows,
    coactivation: Coactivation,
    pool: Pool,
    k_hat: Option<KHat>,
    options: DescribeOptions,
    block: Block,
}

impl<'a> FeatureDescriber<'a> {
    pub(super) fn new(
        observed: FeatureObserver,
        sae: &Sae,
        places: Places,
        host: Option<&'a HostModel>,
        options: DescribeOptions,
    ) -> Result<Self> {
        let FeatureObserver { spool, norms, k_hat, .. } = observed;
        let codes = spool.finish()?;
        let n_rows = codes.counts.n_rows;
        if n_rows == 0 {
            return Err(Error::Empty { what: "rows" });
        }
        if n_rows > u32::MAX.into() {
            let (expected, got) = (format!("at most {}", u32::MAX), n_rows.to_string());
            return Err(Error::Setting { name: "rows", expected, got });
        }
        let median = median(&norms);
        let rows = Rows::new(places, norms, median, options.window);
        let activity = Activity {
            pool: Pool::draw(&rows, options.seed),
            rows,
            coactivation: Coactivation::read(&codes, options.seed)?,
            codes,
            k_hat,
            options,
            block: Block::default(),
        };
        Ok(Self { activity, decoder: Decoder::new(sae)?, host, median, next: 0, block: 0..0 })
    }

    /// Passes over features that are described already, if they were so in the order of their
    /// numbers from the first. Numbers are those of a describer that did not: features are described
    /// together with the same others, so that the next may be some of those that are passed over.
    pub fn pass_over(&mut self, n_features: usize) {
        while let Some(end) = self.end_of_next().filter(|end| *end as usize <= n_features) {
            self.next = end;
        }
    }

    /// The end of the features that are described together with the next; none after the last.
    fn end_of_next(&mut self) -> Option<u32> {
        let of_features = &self.activity.codes.counts.of_features;
        if self.next as usize == of_features.len() {
            return None;
        }
        if !self.block.contains(&self.next) {
            self.block = fitting(of_features, self.next, MAX_ACTIVATIONS);
        }
        Some(self.block.end.min(self.next + AT_ONCE))
    }

    /// The next features; none after the last.
    ///
    /// # Errors
    /// [`Error::Spool`], [`Error::Torch`], [`Error::Host`].
    pub fn next_features(&mut self) -> Result<Vec<FeatureRecord>> {
        let Some(end) = self.end_of_next() else { return Ok(Vec::new()) };
        let (features, n_features) = (self.next..end, self.activity.codes.counts.of_features.len());
        let activity = &mut self.activity;
        if activity.block.features != self.block {
            // The one before is given up before the next takes its memory.
            activity.block = Block::default();
            activity.block = Block::read(&activity.codes, self.block.clone())?;
        }
        self.next = end;
        let cosines = self.decoder.nearest(features.clone(), N_NEIGHBORS)?;
        let components = self.decoder.components(features.clone())?;
        let attributions = match self.host {
            Some(host) => self.decoder.attribution(features.clone(), host)?,
            None => vec![None; features.len()],
        };
        let activity = &self.activity;
        let describe = |sums: &mut Sums, feature| activity.describe(feature, sums);
        let records = features.into_par_iter().map_init(|| Sums::new(n_features), describe);
        let mut records: Vec<FeatureRecord> = records.collect();
        let said = components.into_iter().zip(cosines).zip(attributions);
        for (record, ((components, cosine), attribution)) in records.iter_mut().zip(said) {
            record.decoder_norm = self.decoder.norm(record.feature);
            record.components = components;
            (record.cosine, record.attribution) = (cosine, attribution);
        }
        Ok(records)
    }

    /// Features of the SAE.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.activity.codes.counts.of_features.len()
    }

    /// Rows that were observed.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.activity.codes.counts.n_rows
    }

    /// Mean number of active features a row.
    #[must_use]
    pub fn l0(&self) -> f64 {
        self.activity.codes.counts.n_codes as f64 / self.n_rows() as f64
    }

    /// Median norm of the rows that are not zero.
    #[must_use]
    pub fn median_norm(&self) -> f64 {
        self.median
    }

    /// Rows of more than ten times the median norm.
    #[must_use]
    pub fn n_outlier_rows(&self) -> u64 {
        self.activity.rows.n_outliers()
    }

    /// Rows from which co-activations are computed: all, or a uniform sample.
    #[must_use]
    pub fn n_coactivation_rows(&self) -> u64 {
        self.activity.coactivation.n_rows()
    }

    /// Stretches of rows that are of one document and in the order of their positions.
    #[must_use]
    pub fn n_contexts(&self) -> u64 {
        self.activity.rows.n_contexts()
    }

    /// Windows drawn from the store, from which contexts without a feature are taken, in the order of
    /// the numbers that [`HeldOut`](sae_config::HeldOut) has.
    #[must_use]
    pub fn pool(&self) -> Vec<FeatureContext> {
        self.activity.pool.contexts(&self.activity.rows)
    }

    /// Positions of a context: one more than the last that a row has.
    #[must_use]
    pub fn n_positions(&self) -> usize {
        self.activity.rows.n_positions()
    }

    /// Whether rows are of tokens.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        self.activity.rows.has_tokens()
    }

    /// Mean and standard deviation of k̂, where the architecture chooses one.
    #[must_use]
    pub fn k_hat(&self) -> Option<[f64; 2]> {
        self.activity.k_hat.as_ref().map(KHat::mean_and_sd)
    }
}

impl Activity {
    /// All but what its decoder row says.
    fn describe(&self, feature: u32, sums: &mut Sums) -> FeatureRecord {
        let active = self.block.of(feature);
        let (n, order) = (active.rows.len(), by_magnitude(active.values));
        let row = |at: &u32| active.rows[*at as usize];
        let magnitude = |at: u32| active.values[at as usize].abs();
        let contexts = |rows: Vec<u32>| -> Vec<FeatureContext> {
            rows.into_iter().map(|row| self.rows.context(row as usize, active)).collect()
        };
        let top = self.rows.apart(order.iter().map(row), N_TOP);
        let quantiles = (0..N_QUANTILES).map(|number| {
            let part = &order[quantile(n, number)];
            let rows = part.iter().map(row);
            Quantile {
                from: part.last().map_or(0.0, |at| magnitude(*at)),
                to: part.first().map_or(0.0, |at| magnitude(*at)),
                n: part.len() as u64,
                contexts: contexts(sample(rows, feature, self.options.seed, N_OF_QUANTILE)),
            }
        });
        let quantiles: Vec<Quantile> = quantiles.collect();
        let top = contexts(top);
        let Judging { held_out, n_gram } = {
            let shown = quantiles.iter().flat_map(|of| &of.contexts);
            let shown: Vec<&FeatureContext> = top.iter().chain(shown).collect();
            self.pool.judging(&self.rows, (feature, active), &order, &shown, self.options.seed)
        };
        let near = self.coactivation.nearest(feature, active, sums, N_NEIGHBORS);
        let total: f64 = active.values.iter().map(|value| f64::from(*value)).sum();
        FeatureRecord {
            feature,
            n_active: n as u64,
            mean: total / n.max(1) as f64,
            max: order.first().map_or(0.0, |at| active.values[*at as usize]),
            histogram: histogram(active.values),
            quantiles,
            top,
            held_out,
            n_gram,
            pearson: near.pearson,
            pearson_cosine: near.cosine,
            jaccard: near.jaccard,
            k_hat: self
                .k_hat
                .as_ref()
                .filter(|_| n > 0)
                .map(|k_hat| self.with_k_hat(k_hat, feature)),
            ..FeatureRecord::default()
        }
    }

    fn with_k_hat(&self, k_hat: &KHat, feature: u32) -> FeatureKHat {
        let n = self.codes.counts.of_features[feature as usize] as f64;
        let rate = n / self.codes.counts.n_rows as f64;
        let mean = k_hat.sums[feature as usize] / n;
        let [all, _] = k_hat.mean_and_sd();
        // Both standard deviations with N.
        let sd = (k_hat.moments.total_squared_deviation() / self.codes.counts.n_rows as f64).sqrt();
        let varies = sd > 0.0 && rate < 1.0;
        let correlation = varies.then(|| (mean - all) / sd * (rate / (1.0 - rate)).sqrt());
        FeatureKHat { mean, correlation: correlation.map(|r| r.clamp(-1.0, 1.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_rows_that_are_not_zero() {
        assert_eq!(median(&[0.0, 3.0, 1.0, 0.0]), 2.0);
        assert_eq!(median(&[0.0, 3.0, 1.0, 7.0]), 3.0);
        assert_eq!(median(&[0.0]), 0.0);
    }
}

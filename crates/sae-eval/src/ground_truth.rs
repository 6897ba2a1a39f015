//! What an SAE finds against what is there, on planted data.

use sae_config::{GroundTruth, Score, Scores};
use sae_data::{ActivationStore, PlantedTruth};
use sae_models::{Role, Sae};
use tch::{Kind, Tensor};

use crate::assignment::assign;
use crate::correlation::{slope, spearman};
use crate::latent_scores::Detectors;
use crate::metrics::{check_shape, to_f64s};
use crate::suites::ratio_interval;
use crate::{Error, EvalBatch, Features, Observer, Result};

/// Cosine above which a true feature counts as recovered.
const RECOVERED: f64 = 0.9;

/// Compares an SAE with the truth of a planted store.
#[derive(Debug)]
pub struct TruthObserver<'a> {
    truth: &'a PlantedTruth,
    metrics: TruthMetrics,
}

impl<'a> TruthObserver<'a> {
    /// To observe a pass of `sae` over the `store` that `truth` is of.
    ///
    /// # Errors
    /// [`Error::Truth`] if store and truth do not belong together; [`Error::Ports`] of a transcoder; those of [`TruthMetrics::new`].
    pub fn new(sae: &Sae, store: &dyn ActivationStore, truth: &'a PlantedTruth) -> Result<Self> {
        if sae.config().is_transcoder() {
            let expected = "an autoencoder: the truth is of what is encoded";
            return Err(Error::Ports { expected });
        }
        let expected = truth.d_model();
        if store.d_model() != expected {
            return Err(Error::Truth { name: "d_model", expected, got: store.d_model() });
        }
        if store.n_rows() != truth.n_rows() as u64 {
            let got = usize::try_from(store.n_rows()).unwrap_or(usize::MAX);
            return Err(Error::Truth { name: "rows", expected: truth.n_rows(), got });
        }
        let n_true = truth.n_features() as i64;
        let dictionary =
            Tensor::f_from_slice(truth.dictionary())?.f_reshape([n_true, expected as i64])?;
        let metrics = TruthMetrics::new(&sae.parameters[Role::DecoderWeight], &dictionary)?;
        Ok(Self { truth, metrics })
    }

    /// The comparison over all rows.
    ///
    /// # Errors
    /// [`Error::Empty`] if there was none.
    pub fn finish(&self) -> Result<GroundTruth> {
        self.metrics.finish()
    }

    /// The scores of the suite `truth`.
    ///
    /// # Errors
    /// [`Error::Empty`] if there was no row.
    pub fn scores(&self) -> Result<Scores> {
        self.metrics.scores()
    }
}

impl Observer for TruthObserver<'_> {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        let n = batch.x.size()[0] as usize;
        let first = batch.first_row as usize;
        let truth: Vec<&[u32]> = (first..first + n).map(|row| self.truth.active(row).0).collect();
        self.metrics.add_active(batch.features, &truth, batch.k_hat)
    }
}

/// Comparison of a decoder and its features with a known dictionary and its activations.
///
/// Each feature of the dictionary is matched to at most one feature of the SAE, such that the sum
/// of their absolute cosines is greatest.
#[derive(Debug)]
pub struct TruthMetrics {
    n_features: usize,
    n_true: usize,
    /// Of each feature of the SAE, the feature of the dictionary that it is matched to.
    matches: Vec<Option<u32>>,
    /// Absolute cosine of each match.
    cosines: Vec<f64>,
    detectors: Detectors,
    n_active: u64,
    n_truly_active: u64,
    n_both: u64,
    l0: Vec<f64>,
    true_k: Vec<f64>,
    /// Of each row, features that are active together with the true feature they are matched to.
    both: Vec<f64>,
    k_hat: Vec<f64>,
}

impl TruthMetrics {
    /// Matches a decoder to a dictionary; no rows yet.
    ///
    /// # Shapes
    /// decoder `[n_features, d_model]`, dictionary `[n_true, d_model]`; any float kind, any device.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Setting`]; [`Error::NotFinite`] for a direction with a NaN or an infinity.
    pub fn new(decoder: &Tensor, dictionary: &Tensor) -> Result<Self> {
        let (size, got) = (dictionary.size(), decoder.size());
        let &[n_true, d_model] = &size[..] else {
            let expected = "shape [n_true, d_model]".to_owned();
            return Err(Error::Setting { name: "dictionary", expected, got: format!("{size:?}") });
        };
        let n_features = got.first().copied().unwrap_or_default();
        check_shape("decoder", decoder, &[n_features, d_model])?;
        let (decoder, dictionary) =
            (unit_rows("decoder", decoder)?, unit_rows("dictionary", dictionary)?);
        // The assignment wants no more rows than columns.
        let is_wide = n_true <= n_features;
        let (rows, columns) =
            if is_wide { (&dictionary, &decoder) } else { (&decoder, &dictionary) };
        let (n_rows, n_columns) = (rows.size()[0] as usize, columns.size()[0] as usize);
        let weights = to_f64s(&rows.f_matmul(&columns.f_transpose(0, 1)?)?.f_abs()?)?;
        let assigned = assign(&weights, n_rows, n_columns);
        let pairs = || assigned.iter().copied().enumerate();
        let cosines = pairs().map(|(row, column)| weights[row * n_columns + column]).collect();
        // Row by row of the decoder, whichever of the two the rows of the weights are.
        let by_feature = (0..n_features as usize).map(|feature| match is_wide {
            true => (0..n_rows).map(|row| weights[row * n_columns + feature]).collect(),
            false => weights[feature * n_columns..][..n_columns].to_vec(),
        });
        let mut matches = vec![None; n_features as usize];
        for (row, column) in pairs() {
            let (feature, true_feature) = if is_wide { (column, row) } else { (row, column) };
            matches[feature] = Some(true_feature as u32);
        }
        Ok(Self {
            n_features: n_features as usize,
            n_true: n_true as usize,
            matches,
            cosines,
            detectors: Detectors::new(by_feature, n_true as usize),
            n_active: 0,
            n_truly_active: 0,
            n_both: 0,
            l0: vec![],
            true_k: vec![],
            both: vec![],
            k_hat: vec![],
        })
    }

    /// Adds a batch. A feature, true or not, is active where its value is not 0.
    ///
    /// # Shapes
    /// features `[batch, n_features]`, truth `[batch, n_true]`, k̂ `[batch]`; any kind, any device.
    ///
    /// # Errors
    /// [`Error::Shape`]. After an error the metrics are of no use.
    pub fn add(&mut self, features: &Tensor, truth: &Tensor, k_hat: Option<&Tensor>) -> Result<()> {
        let n = features.size().first().copied().unwrap_or_default();
        check_shape("features", features, &[n, self.n_features as i64])?;
        check_shape("truth", truth, &[n, self.n_true as i64])?;
        let _guard = tch::no_grad_guard();
        let mut active = vec![Vec::new(); n as usize];
        Features::Dense(truth).for_each_active(|row, feature| active[row].push(feature as u32))?;
        let active: Vec<&[u32]> = active.iter().map(Vec::as_slice).collect();
        self.add_active(Features::Dense(features), &active, k_hat)
    }

    /// Adds a batch; `truth` lists the active features of the dictionary in each row.
    fn add_active(
        &mut self,
        features: Features<'_>,
        truth: &[&[u32]],
        k_hat: Option<&Tensor>,
    ) -> Result<()> {
        if let Some(k_hat) = k_hat {
            check_shape("k_hat", k_hat, &[truth.len() as i64])?;
            self.k_hat.extend(to_f64s(k_hat)?);
        }
        let first = self.l0.len();
        self.l0.resize(first + truth.len(), 0.0);
        self.both.resize(first + truth.len(), 0.0);
        self.true_k.extend(truth.iter().map(|active| active.len() as f64));
        self.n_truly_active += truth.iter().map(|active| active.len() as u64).sum::<u64>();
        self.detectors.add_truth(truth);
        // For each true feature the last row, counted from 1, in which it is active.
        let mut last = vec![0; self.n_true];
        let mut marked = 0;
        features.for_each_active(|row, feature| {
            while marked <= row {
                truth[marked].iter().for_each(|&active| last[active as usize] = marked + 1);
                marked += 1;
            }
            self.l0[first + row] += 1.0;
            self.n_active += 1;
            self.detectors.add_active(feature, |known| last[known] == row + 1);
            let matched = self.matches[feature];
            let is_right = matched.is_some_and(|f| last[f as usize] == row + 1);
            self.n_both += u64::from(is_right);
            self.both[first + row] += f64::from(u8::from(is_right));
        })
    }

    /// The comparison over all rows given.
    ///
    /// # Errors
    /// [`Error::Empty`] if there was none.
    pub fn finish(&self) -> Result<GroundTruth> {
        if self.l0.is_empty() {
            return Err(Error::Empty { what: "rows" });
        }
        let n_recovered = self.cosines.iter().filter(|&&cosine| cosine > RECOVERED).count();
        let share = |n: f64, of: f64| if of > 0.0 { n / of } else { 0.0 };
        let has_k_hat = self.k_hat.len() == self.l0.len();
        let with_k_hat = |f: fn(&[f64], &[f64]) -> Option<f64>| {
            has_k_hat.then(|| f(&self.true_k, &self.k_hat)).flatten()
        };
        Ok(GroundTruth {
            n_true_features: self.n_true as u64,
            mean_matched_cosine: share(self.cosines.iter().sum(), self.n_true as f64),
            recovered_above_0_9: share(n_recovered as f64, self.n_true as f64),
            support_precision: share(self.n_both as f64, self.n_active as f64),
            support_recall: share(self.n_both as f64, self.n_truly_active as f64),
            spearman_l0_true_l0: spearman(&self.true_k, &self.l0),
            slope_l0: slope(&self.true_k, &self.l0),
            spearman_k_hat: with_k_hat(spearman),
            slope_k_hat: with_k_hat(slope),
            latents: Some(
                self.detectors.finish(share(self.cosines.iter().sum(), self.cosines.len() as f64)),
            ),
        })
    }
}

impl TruthMetrics {
    /// The scores of the suite `truth`: those of single features as means over features, so that
    /// their interval is one over features.
    ///
    /// # Errors
    /// [`Error::Empty`] if there was no row.
    pub fn scores(&self) -> Result<Scores> {
        let truth = self.finish()?;
        let of = |i: usize| -> Vec<f64> { self.detectors.of_features().map(|s| s[i]).collect() };
        let n_features = self.n_features as u64;
        let uniqueness = truth.latents.as_ref().map_or(0.0, |latents| latents.uniqueness);
        let most_unique = (self.n_true as f64 / self.n_features.max(1) as f64).min(1.0);
        // A known feature without a match has cosine 0.
        let mut matched = self.cosines.clone();
        matched.resize(self.n_true, 0.0);
        let n_recovered = self.cosines.iter().filter(|cosine| **cosine > RECOVERED).count() as u64;
        let n_rows = self.l0.len() as u64;
        let ratio = |value: f64, below: &[f64]| Score {
            interval: ratio_interval(&self.both, below),
            ..Score::new(value, n_rows)
        };
        let scores = [
            ("truth.f1", Score::mean(&of(2))),
            ("truth.precision", Score::mean(&of(0))),
            ("truth.recall", Score::mean(&of(1))),
            ("truth.mcc", Score::mean(&self.cosines)),
            ("truth.uniqueness", Score::new(uniqueness, n_features).with_ceiling(most_unique)),
            ("truth.matched_cosine", Score::mean(&matched)),
            ("truth.recovered", Score::share(n_recovered, self.n_true as u64)),
            ("truth.support_precision", ratio(truth.support_precision, &self.l0)),
            ("truth.support_recall", ratio(truth.support_recall, &self.true_k)),
        ];
        // The truth itself has 1, unless said otherwise.
        let with_ceiling = |score: Score| match score.ceiling {
            Some(_) => score,
            None => score.with_ceiling(1.0),
        };
        Ok(scores.into_iter().map(|(name, score)| (name.into(), with_ceiling(score))).collect())
    }
}

/// Each row over its norm, in f64 on the CPU; a row of zeros stays one.
pub(crate) fn unit_rows(name: &'static str, matrix: &Tensor) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let matrix = matrix.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double)?;
    let norms = matrix.f_norm_scalaropt_dim(2.0, 1i64, true)?;
    if let Some((row, &got)) = (0..).zip(&to_f64s(&norms)?).find(|(_, norm)| !norm.is_finite()) {
        return Err(Error::NotFinite { name, row, got });
    }
    Ok(matrix.f_div(&norms.f_clamp_min(f64::MIN_POSITIVE)?)?)
}

//! What rows of SynthSAEBench's distributions are made of.

use serde::{Deserialize, Serialize};

use super::forest::{Forest, Node, Shape};
use super::orthogonal::orthogonalize;
use super::random::{normal, rng, unit_vectors};
use crate::{Error, Result};

/// Least share of a feature's own randomness beside that of the common factors.
const LEAST_DIAGONAL: f64 = 0.01;

/// Settings of SynthSAEBench's distributions; the defaults are those of its 16,384 features in 768
/// dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SynthConfig {
    /// Firing probability of the first feature.
    pub max_probability: f64,
    /// Firing probability of the last.
    pub min_probability: f64,
    /// Between them, probabilities fall with rank^(−`exponent`).
    pub exponent: f64,
    /// Common factors of the Gaussian copula; 0 for features that are independent.
    pub correlation_rank: usize,
    /// Standard deviation of a feature's weight of a common factor.
    pub correlation_scale: f64,
    /// Trees of the hierarchy; 0 for none.
    pub roots: usize,
    /// Children of a parent.
    pub branching: usize,
    /// Levels below the roots.
    pub depth: usize,
    /// Whether siblings exclude each other.
    pub exclusive_siblings: bool,
    /// Whether a child's activation is multiplied by its parent's over the parent's mean.
    pub scaled_by_parent: bool,
    /// Whether probabilities are raised by what parents and siblings take from them.
    pub compensated: bool,
    /// Mean activation of the first feature.
    pub first_magnitude: f64,
    /// Mean activation of the last; linear between them.
    pub last_magnitude: f64,
    /// A feature's standard deviation of activations is |N(`spread_mean`, `spread_sd`²)|.
    pub spread_mean: f64,
    /// See `spread_mean`.
    pub spread_sd: f64,
    /// Norm of the vector added to all rows.
    pub bias: f64,
    /// Steps of Adam that make the dictionary more orthogonal.
    pub orthogonal_steps: usize,
    /// Their learning rate.
    pub orthogonal_lr: f64,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            max_probability: 0.4,
            min_probability: 5e-4,
            exponent: 0.5,
            correlation_rank: 25,
            correlation_scale: 0.1,
            roots: 128,
            branching: 4,
            depth: 3,
            exclusive_siblings: true,
            scaled_by_parent: true,
            compensated: true,
            first_magnitude: 5.0,
            last_magnitude: 4.0,
            spread_mean: 0.5,
            spread_sd: 0.5,
            bias: 0.5,
            orthogonal_steps: 100,
            orthogonal_lr: 3e-4,
        }
    }
}

impl SynthConfig {
    /// Checks every value.
    pub(super) fn check(&self, n_features: usize) -> Result<()> {
        let wrong = |field: &str, expected: &str, got: String| {
            Err(Error::value(format!("synth.{field}"), expected, got))
        };
        let (low, high) = (self.min_probability, self.max_probability);
        if !(high > 0.0 && high <= 1.0) {
            return wrong("max_probability", "above 0 and at most 1", high.to_string());
        }
        if !(low > 0.0 && low < high) {
            let expected = format!("above 0 and below max_probability {high}");
            return wrong("min_probability", &expected, low.to_string());
        }
        if self.roots > n_features {
            let expected = format!("at most n_features {n_features}");
            return wrong("roots", &expected, self.roots.to_string());
        }
        if self.branching < 2 {
            return wrong("branching", "at least 2", self.branching.to_string());
        }
        if !(1..=64).contains(&self.depth) {
            return wrong("depth", "1 to 64", self.depth.to_string());
        }
        for (field, value) in [
            ("exponent", self.exponent),
            ("first_magnitude", self.first_magnitude),
            ("last_magnitude", self.last_magnitude),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return wrong(field, "a finite number above 0", value.to_string());
            }
        }
        for (field, value) in [
            ("correlation_scale", self.correlation_scale),
            ("spread_mean", self.spread_mean),
            ("spread_sd", self.spread_sd),
            ("bias", self.bias),
            ("orthogonal_lr", self.orthogonal_lr),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(field, "a finite number of at least 0", value.to_string());
            }
        }
        Ok(())
    }

    /// Draws the model that the seed decides.
    pub(super) fn model(
        &self,
        n_features: usize,
        d_model: usize,
        seed: u64,
        progress: &mut dyn FnMut(u64),
    ) -> SynthModel {
        let shape = Shape {
            roots: self.roots,
            branching: self.branching,
            depth: self.depth,
            exclusive: self.exclusive_siblings,
            scaled: self.scaled_by_parent,
        };
        let roots = Forest::grow(n_features, shape);
        let probabilities =
            zipf(n_features, self.exponent, self.max_probability, self.min_probability);
        let probabilities =
            if self.compensated { compensated(&roots, &probabilities) } else { probabilities };
        let forest = Forest::new(n_features, &roots);
        let mut dictionary = unit_vectors(&mut rng(seed, "dictionary", 0), n_features, d_model);
        let (steps, lr) = (self.orthogonal_steps, self.orthogonal_lr);
        orthogonalize(&mut dictionary, d_model, steps, lr, progress);
        let mut bias = unit_vectors(&mut rng(seed, "offset", 0), 1, d_model);
        bias.iter_mut().for_each(|v| *v *= self.bias as f32);
        let mut spread_rng = rng(seed, "spread", 0);
        let spread = (0..n_features)
            .map(|_| (self.spread_mean + self.spread_sd * normal(&mut spread_rng)).abs() as f32);
        SynthModel {
            n_features,
            d_model,
            dictionary,
            bias,
            probabilities,
            copula: self.copula(n_features, seed),
            forest: forest.expect("grown trees have each feature once"),
            mean: linear(n_features, self.first_magnitude, self.last_magnitude),
            spread: spread.collect(),
        }
    }

    fn copula(&self, n_features: usize, seed: u64) -> Copula {
        let rank = self.correlation_rank;
        let mut rng = rng(seed, "copula", 0);
        let mut copula = Copula { rank, ..Copula::default() };
        for _ in 0..n_features {
            let drawn = (0..rank).map(|_| self.correlation_scale * normal(&mut rng));
            let mut weights: Vec<f64> = drawn.collect();
            let square: f64 = weights.iter().map(|w| w * w).sum();
            let most = 1.0 - LEAST_DIAGONAL;
            if square > most {
                weights.iter_mut().for_each(|w| *w *= (most / square).sqrt());
            }
            copula.diagonal.push((1.0 - square.min(most)) as f32);
            copula.factor.extend(weights.iter().map(|&w| w as f32));
        }
        copula
    }
}

/// A model of SynthSAEBench's kind, drawn or read.
#[derive(Debug)]
pub(super) struct SynthModel {
    pub(super) n_features: usize,
    pub(super) d_model: usize,
    /// `[n_features, d_model]`.
    pub(super) dictionary: Vec<f32>,
    pub(super) bias: Vec<f32>,
    /// Of each feature, before parents and siblings are heard.
    pub(super) probabilities: Vec<f32>,
    pub(super) copula: Copula,
    pub(super) forest: Forest,
    /// Mean of a feature's activations.
    pub(super) mean: Vec<f32>,
    /// Their standard deviation.
    pub(super) spread: Vec<f32>,
}

/// Covariance factor·factorᵀ + diag(diagonal) of the normal variables that decide what fires.
#[derive(Debug, Default)]
pub(super) struct Copula {
    pub(super) rank: usize,
    /// `[n_features, rank]`.
    pub(super) factor: Vec<f32>,
    pub(super) diagonal: Vec<f32>,
}

/// min + (max − min)·(rank^(−exponent) − last)/(first − last): `max` at rank 1, `min` at the last.
pub(super) fn zipf(n: usize, exponent: f64, max: f64, min: f64) -> Vec<f32> {
    let weight = |rank: usize| (rank as f64).powf(-exponent);
    let (first, last) = (1.0, weight(n));
    let share = |i: usize| if n == 1 { 1.0 } else { (weight(i + 1) - last) / (first - last) };
    (0..n).map(|i| (min + (max - min) * share(i)) as f32).collect()
}

/// From `first` to `last` in equal steps.
pub(super) fn linear(n: usize, first: f64, last: f64) -> Vec<f32> {
    let step = if n > 1 { (last - first) / (n - 1) as f64 } else { 0.0 };
    (0..n).map(|i| (first + step * i as f64) as f32).collect()
}

/// Probabilities times their corrections, at most 1.
pub(super) fn compensated(roots: &[Node], probabilities: &[f32]) -> Vec<f32> {
    let factors = Forest::corrections(roots, probabilities);
    probabilities.iter().zip(factors).map(|(p, factor)| (p * factor).min(1.0)).collect()
}

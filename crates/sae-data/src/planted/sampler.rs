//! Rows of a model of SynthSAEBench's kind.
//!
//! A normal variable of each feature, Σ_r w_r ε_r + √d η with ε common to all features of a row, is
//! above the quantile of the feature's probability where the feature fires. Given ε, features are
//! independent, so that those without a parent are decided in blocks, and children only where their
//! parent is active: what is not heard need not be drawn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore as _;

use super::generator::Row;
use super::normal::{Exceedance, upper_quantile};
use super::random::{below, normal, rng};
use super::synth::SynthModel;
use crate::store::to_usize;

/// Features decided at a time.
const TILE: usize = 256;

/// Draws rows of a model.
#[derive(Debug)]
pub(super) struct Sampler {
    model: SynthModel,
    seed: u64,
    /// Of each feature, the quantile over √d.
    thresholds: Vec<f32>,
    /// Of each feature, the weights over √d: `[n_features, rank]`.
    weights: Vec<f32>,
    /// Features without a parent.
    free: Vec<u32>,
    /// Of each tile of free features, the weights `[rank, tile]`, one after the other.
    free_weights: Vec<f32>,
    free_thresholds: Vec<f32>,
    exceedance: Exceedance,
}

/// A feature and its activation.
type Active = (u32, f32);

impl Sampler {
    pub(super) fn new(model: SynthModel, seed: u64) -> Self {
        let rank = model.copula.rank;
        let root = |feature: usize| f64::from(model.copula.diagonal[feature]).sqrt();
        let threshold =
            |(feature, &p): (usize, &f32)| (upper_quantile(f64::from(p)) / root(feature)) as f32;
        let weight = |(i, &w): (usize, &f32)| (f64::from(w) / root(i / rank)) as f32;
        let thresholds: Vec<f32> = model.probabilities.iter().enumerate().map(threshold).collect();
        let weights: Vec<f32> = model.copula.factor.iter().enumerate().map(weight).collect();
        let is_free = |&f: &u32| model.forest.kin[f as usize].parent.is_none();
        let free: Vec<u32> = (0..model.n_features as u32).filter(is_free).collect();
        let mut free_weights = Vec::with_capacity(free.len() * rank);
        for tile in free.chunks(TILE) {
            for factor in 0..rank {
                free_weights.extend(tile.iter().map(|&f| weights[f as usize * rank + factor]));
            }
        }
        Self {
            free_thresholds: free.iter().map(|&f| thresholds[f as usize]).collect(),
            model,
            seed,
            thresholds,
            weights,
            free,
            free_weights,
            exceedance: Exceedance::new(),
        }
    }

    pub(super) const fn model(&self) -> &SynthModel {
        &self.model
    }

    /// The rows of these numbers.
    pub(super) fn rows(&self, numbers: std::ops::Range<u64>) -> Vec<Row> {
        let rank = self.model.copula.rank;
        let mut drawn: Vec<Draw> =
            numbers.clone().map(|number| Draw::new(self.seed, number, rank)).collect();
        debug_assert_eq!(drawn.len(), to_usize(numbers.end - numbers.start));
        let mut z = [0.0f32; TILE];
        for (tile, free) in self.free.chunks(TILE).enumerate() {
            let weights = &self.free_weights[tile * TILE * rank..][..free.len() * rank];
            for draw in &mut drawn {
                let z = &mut z[..free.len()];
                z.copy_from_slice(&self.free_thresholds[tile * TILE..][..free.len()]);
                for (weights, common) in weights.chunks(free.len()).zip(&draw.common) {
                    z.iter_mut().zip(weights).for_each(|(z, w)| *z -= w * common);
                }
                for (&feature, &z) in free.iter().zip(&*z) {
                    if self.exceedance.happens(z, draw.rng.next_u32()) {
                        draw.fired.push(feature);
                    }
                }
            }
        }
        drawn.into_iter().map(|draw| self.row(draw)).collect()
    }

    fn row(&self, mut draw: Draw) -> Row {
        let model = &self.model;
        let fired = std::mem::take(&mut draw.fired);
        let roots = fired.iter().map(|&feature| (feature, self.activation(feature, &mut draw)));
        let mut candidates: Vec<Active> = roots.filter(|(_, a)| *a > 0.0).collect();
        self.exclude(&mut candidates, &mut draw.rng);
        let mut active = candidates;
        let mut place = 0;
        while place < active.len() {
            let (parent, parent_activation) = active[place];
            let mut candidates = self.children(parent, parent_activation, &mut draw);
            self.exclude(&mut candidates, &mut draw.rng);
            active.append(&mut candidates);
            place += 1;
        }
        active.sort_unstable_by_key(|(feature, _)| *feature);
        let mut values = model.bias.clone();
        for &(feature, a) in &active {
            let direction = &model.dictionary[feature as usize * model.d_model..][..model.d_model];
            values.iter_mut().zip(direction).for_each(|(v, d)| *v += a * d);
        }
        Row { values, intrinsic_dimension: active.len() as u32, active }
    }

    /// The children of an active feature that fire, and their activations.
    fn children(&self, parent: u32, parent_activation: f32, draw: &mut Draw) -> Vec<Active> {
        let rank = self.model.copula.rank;
        let mut candidates = Vec::new();
        for &child in &self.model.forest.children[parent as usize] {
            let weights = &self.weights[child as usize * rank..][..rank];
            let common = weights.iter().zip(&draw.common).map(|(w, common)| w * common);
            let z = common.fold(self.thresholds[child as usize], |z, v| z - v);
            if !self.exceedance.happens(z, draw.rng.next_u32()) {
                continue;
            }
            let mut a = self.activation(child, draw);
            if self.model.forest.kin[child as usize].is_scaled {
                a *= parent_activation / self.model.mean[parent as usize];
            }
            if a > 0.0 {
                candidates.push((child, a));
            }
        }
        candidates
    }

    /// max(0, N(mean, spread²)).
    fn activation(&self, feature: u32, draw: &mut Draw) -> f32 {
        let (mean, spread) = (&self.model.mean, &self.model.spread);
        (mean[feature as usize] + spread[feature as usize] * normal(&mut draw.rng) as f32).max(0.0)
    }

    /// Leaves one of the features of each group, any with the same probability.
    fn exclude(&self, candidates: &mut Vec<Active>, rng: &mut ChaCha8Rng) {
        let group = |feature: u32| self.model.forest.kin[feature as usize].group;
        let mut place = 0;
        while place < candidates.len() {
            let of = group(candidates[place].0);
            let rivals = |(feature, _): &&Active| of.is_some() && group(*feature) == of;
            let n = candidates[place..].iter().filter(rivals).count();
            if n > 1 {
                let winner = below(rng, n);
                let mut seen = 0;
                candidates.retain(|(feature, _)| {
                    let is_rival = group(*feature) == of;
                    seen += usize::from(is_rival);
                    !is_rival || seen == winner + 1
                });
                // What stood here may be gone: the place is looked at again, its group is settled.
            } else {
                place += 1;
            }
        }
    }
}

/// A row that is being drawn.
struct Draw {
    rng: ChaCha8Rng,
    /// ε, of length rank.
    common: Vec<f32>,
    /// Free features that fire.
    fired: Vec<u32>,
}

impl Draw {
    fn new(seed: u64, number: u64, rank: usize) -> Self {
        let mut rng = rng(seed, "synth row", number);
        let common = (0..rank).map(|_| normal(&mut rng) as f32).collect();
        Self { rng, common, fired: Vec::new() }
    }
}

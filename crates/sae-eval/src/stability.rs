//! How far two dictionaries share their features: between seeds, runs and widths.

use sae_config::{Comparison, Fate, Fates, FeatureMatch, SharedFeatures};
use sae_models::InitRng;
use tch::{Device, Kind, Tensor};

use crate::assignment::assign;
use crate::ground_truth::unit_rows;
use crate::metrics::{check_shape, to_f64s};
use crate::{EvalBatch, Observer, Result};

/// Cosine from which on two features count as the same.
const SAME: f64 = 0.7;

/// Cosine from which on a feature counts as part of another.
const PART: f64 = 0.4;

/// Seed of the random directions that give the floor: one that no model starts from, since models
/// draw their first decoder from the same generator.
const SEED: u64 = 0x005e_ed0f_f100_0000;

/// Which features of an SAE are active on at least one row of a pass.
#[derive(Debug)]
pub struct ActiveFeatures {
    is_active: Vec<bool>,
}

impl ActiveFeatures {
    /// To observe a pass of an SAE of so many features.
    #[must_use]
    pub fn new(n_features: usize) -> Self {
        Self { is_active: vec![false; n_features] }
    }

    /// The features that were active, in order.
    #[must_use]
    pub fn finish(self) -> Vec<usize> {
        let active = self.is_active.into_iter().enumerate().filter(|(_, active)| *active);
        active.map(|(feature, _)| feature).collect()
    }
}

impl Observer for ActiveFeatures {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        batch.features.for_each_active(|_, feature| self.is_active[feature] = true)
    }
}

/// Compares the features `kept` of two decoders.
///
/// The matching takes n_small²·n_large operations and n_small·n_large·8 bytes, twice: once for the
/// floor.
///
/// # Shapes
/// Each decoder `[n_features, d_model]`, of any float kind and on any device.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) for other dimensions, [`Error::Empty`](crate::Error::Empty)
/// where no feature is kept, [`Error::NotFinite`](crate::Error::NotFinite).
pub fn compare(decoders: [&Tensor; 2], kept: [&[usize]; 2]) -> Result<Comparison> {
    let d_model = decoders[0].size().get(1).copied().unwrap_or_default();
    let side = |i: usize| -> Result<Tensor> {
        if kept[i].is_empty() {
            let what = ["active features of the first", "active features of the second"][i];
            return Err(crate::Error::Empty { what });
        }
        let n = decoders[i].size().first().copied().unwrap_or_default();
        check_shape(["first decoder", "second decoder"][i], decoders[i], &[n, d_model])?;
        let rows: Vec<i64> = kept[i].iter().map(|feature| *feature as i64).collect();
        let rows = Tensor::f_from_slice(&rows)?.f_to_device(decoders[i].device())?;
        let name = ["first decoder", "second decoder"][i];
        unit_rows(name, &decoders[i].f_index_select(0, &rows)?)
    };
    let (first, second) = (side(0)?, side(1)?);
    let n_features = [kept[0].len(), kept[1].len()];
    let is_swapped = n_features[1] < n_features[0];
    let (small, large) = if is_swapped { (&second, &first) } else { (&first, &second) };
    let found = Matching::new(small, large)?;
    let random = InitRng::new(SEED).directions(n_features[1], d_model as usize, 1.0);
    let random = unit_rows("random directions", &random)?;
    let (small, large) = if is_swapped { (&random, &first) } else { (&first, &random) };
    let floor = Matching::new(small, large)?.scores(is_swapped);
    let names = if is_swapped { [kept[1], kept[0]] } else { kept };
    let features = found.features(names);
    let mut fates = Fates::default();
    for feature in &features {
        *match feature.fate {
            Fate::Kept => &mut fates.kept,
            Fate::Split => &mut fates.split,
            Fate::Changed => &mut fates.changed,
            Fate::Lost => &mut fates.lost,
        } += 1;
    }
    Ok(Comparison { n_features, scores: found.scores(is_swapped), floor, fates, features })
}

/// The absolute cosines of two dictionaries, and what is paired.
struct Matching {
    /// `[n_small]`: column of the pair of each row.
    pairs: Vec<usize>,
    pair_cosines: Vec<f64>,
    /// `[n_small]`: the greatest cosine of each row, and its column.
    best: Vec<(usize, f64)>,
    /// `[n_large]`: that of each column, and its row.
    best_of_large: Vec<(usize, f64)>,
}

impl Matching {
    /// # Shapes
    /// `[n_small, d_model]` and `[n_large, d_model]`, n_small at most n_large, rows of norm 1.
    fn new(small: &Tensor, large: &Tensor) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let cosines = small.f_matmul(&large.f_tr()?)?.f_abs()?;
        let (n_small, n_large) = (cosines.size()[0] as usize, cosines.size()[1] as usize);
        let best = |dim: i64| -> Result<Vec<(usize, f64)>> {
            let (value, at) = cosines.f_max_dim(dim, false)?;
            let at = Vec::<i64>::try_from(at.f_to_device(Device::Cpu)?.f_to_kind(Kind::Int64)?)?;
            Ok(at.into_iter().map(|at| at as usize).zip(to_f64s(&value)?).collect())
        };
        let (best, best_of_large) = (best(1)?, best(0)?);
        let weights = to_f64s(&cosines)?;
        drop(cosines);
        let pairs = assign(&weights, n_small, n_large);
        let pair_cosines =
            pairs.iter().enumerate().map(|(row, column)| weights[row * n_large + column]).collect();
        Ok(Self { pairs, pair_cosines, best, best_of_large })
    }

    fn scores(&self, is_swapped: bool) -> SharedFeatures {
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (n, sum) = values.fold((0_u64, 0.0), |(n, sum), value| (n + 1, sum + value));
            sum / n as f64
        };
        let mut max_cosine =
            [&self.best, &self.best_of_large].map(|best| mean(&mut best.iter().map(|b| b.1)));
        if is_swapped {
            max_cosine.reverse();
        }
        let is_shared = |cosine: &f64| f64::from(u8::from(*cosine >= SAME));
        SharedFeatures {
            pw_mcc: mean(&mut self.pair_cosines.iter().copied()),
            shared: mean(&mut self.pair_cosines.iter().map(is_shared)),
            mean_max_cosine: max_cosine,
        }
    }

    /// Each feature of the smaller dictionary, by the numbers that rows and columns have there.
    fn features(&self, [small, large]: [&[usize]; 2]) -> Vec<FeatureMatch> {
        let mut nearest_of = vec![0; small.len()];
        for (row, _) in self.best_of_large.iter().filter(|(_, cosine)| *cosine >= PART) {
            nearest_of[*row] += 1;
        }
        let feature = |row: usize| {
            let ((column, cosine), nearest_of) = (self.best[row], nearest_of[row]);
            let fate = match nearest_of {
                _ if cosine >= SAME => Fate::Kept,
                0 => Fate::Lost,
                1 => Fate::Changed,
                _ => Fate::Split,
            };
            FeatureMatch {
                feature: small[row],
                pair: large[self.pairs[row]],
                pair_cosine: self.pair_cosines[row],
                nearest: large[column],
                nearest_cosine: cosine,
                nearest_of,
                fate,
            }
        };
        (0..small.len()).map(feature).collect()
    }
}

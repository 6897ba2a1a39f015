//! Scores as result files have them: with their interval, and with what worthless dictionaries get.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Better, ScoreInfo, Suite};

/// Scores by their names ([`ScoreInfo::name`]).
pub type Scores = BTreeMap<String, Score>;

/// A number that a suite measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// What was measured.
    pub value: f64,
    /// Where the value would lie, 95 times of 100, on other rows, features or tasks of the kind; none
    /// where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Of how many rows, features or tasks, as [`ScoreInfo::over`] says.
    pub n: u64,
    /// What cannot be exceeded with this data, or what is known to reach it: the dense probe, the
    /// truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<f64>,
    /// What worthless dictionaries of the same width and L0 get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub floors: BTreeMap<Worthless, f64>,
}

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How it was found.
    pub by: IntervalKind,
}

/// How an interval is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalKind {
    /// Quantiles over draws of blocks of neighbouring rows, with replacement.
    BlockBootstrap,
    /// Quantiles over draws of tasks and, in each, of test rows, with replacement.
    TaskBootstrap,
    /// Mean ± 1.96 standard errors.
    Normal,
    /// Wilson's interval of a share.
    Wilson,
}

impl Score {
    /// A score of which no interval is known.
    #[must_use]
    pub const fn new(value: f64, n: u64) -> Self {
        Self { value, interval: None, n, ceiling: None, floors: BTreeMap::new() }
    }

    /// The mean of values, with the interval of its standard error; 0 of none.
    #[must_use]
    pub fn mean(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / n };
        let mut score = Self::new(mean, values.len() as u64);
        if values.len() > 1 {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let half = Z * (squares / (n - 1.0) / n).sqrt();
            let (low, high) = (mean - half, mean + half);
            score.interval = Some(Interval { low, high, by: IntervalKind::Normal });
        }
        score
    }

    /// The share `count` of `n`, with Wilson's interval; 0 of none.
    #[must_use]
    pub fn share(count: u64, n: u64) -> Self {
        if n == 0 {
            return Self::new(0.0, 0);
        }
        let (p, of) = (count as f64 / n as f64, n as f64);
        let denominator = 1.0 + Z * Z / of;
        let centre = (p + Z * Z / (2.0 * of)) / denominator;
        let half = Z * (p * (1.0 - p) / of + Z * Z / (4.0 * of * of)).sqrt() / denominator;
        let (low, high) = ((centre - half).max(0.0), (centre + half).min(1.0));
        let interval = Some(Interval { low, high, by: IntervalKind::Wilson });
        Self { interval, ..Self::new(p, n) }
    }

    /// The same score with this ceiling.
    #[must_use]
    pub fn with_ceiling(mut self, ceiling: f64) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    /// The worthless dictionary that does best at a score, and what it gets.
    #[must_use]
    pub fn floor(&self, info: &ScoreInfo) -> Option<(Worthless, f64)> {
        let floors = self.floors.iter().map(|(kind, value)| (*kind, *value));
        match info.better {
            Better::High => floors.max_by(|a, b| a.1.total_cmp(&b.1)),
            Better::Low => floors.min_by(|a, b| a.1.total_cmp(&b.1)),
            Better::Neither => None,
        }
    }
}

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Scores of a suite in their order, each with what it is.
pub fn scores_of(
    suite: Suite,
    scores: &Scores,
) -> impl Iterator<Item = (&'static ScoreInfo, &Score)> {
    suite.scores().iter().filter_map(|info| Some((info, scores.get(info.name)?)))
}

/// A dictionary that knows little of the data or nothing: what a score gives it, the score gives for
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worthless {
    /// Directions drawn uniformly from the sphere, encoder and decoder the same.
    RandomDirections,
    /// The same decoder with an encoder that is trained for it.
    FrozenDecoder,
    /// Rows of the data, less their mean.
    RandomRows,
    /// Rows whose coordinates come from different rows of the data: its marginals without its
    /// directions.
    ShuffledRows,
    /// The principal components, with both signs.
    PrincipalComponents,
    /// The dimensions that the model itself has, with both signs.
    Dimensions,
}

impl Worthless {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RandomDirections,
        Self::FrozenDecoder,
        Self::RandomRows,
        Self::ShuffledRows,
        Self::PrincipalComponents,
        Self::Dimensions,
    ];

    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RandomDirections => "random_directions",
            Self::FrozenDecoder => "frozen_decoder",
            Self::RandomRows => "random_rows",
            Self::ShuffledRows => "shuffled_rows",
            Self::PrincipalComponents => "principal_components",
            Self::Dimensions => "dimensions",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_the_interval_of_its_standard_error() {
        // Standard deviation 2, so a standard error of 1 over four values.
        let score = Score::mean(&[
            3.0 - 3f64.sqrt(),
            3.0 + 3f64.sqrt(),
            3.0 - 3f64.sqrt(),
            3.0 + 3f64.sqrt(),
        ]);
        let interval = score.interval.unwrap();
        assert!((score.value - 3.0).abs() < 1e-12 && score.n == 4);
        assert!(
            (interval.low - (3.0 - Z)).abs() < 1e-12 && (interval.high - (3.0 + Z)).abs() < 1e-12
        );
        assert_eq!(Score::mean(&[5.0]).interval, None);
        assert_eq!(Score::mean(&[]).value, 0.0);
    }

    #[test]
    fn a_share_has_the_ends_at_which_a_test_would_reject_it() {
        // Wilson's ends are the p at which |p − count/n| is 1.96 standard errors of p.
        for (count, n) in [(1, 10), (7, 20), (50, 100), (0, 7), (7, 7)] {
            let score = Score::share(count, n);
            let interval = score.interval.unwrap();
            for end in [interval.low, interval.high] {
                let error = (end * (1.0 - end) / n as f64).sqrt();
                let distance = (score.value - end).abs();
                let is_bound = (end < 1e-9 || end > 1.0 - 1e-9) && distance < 1e-9;
                assert!(is_bound || (distance - Z * error).abs() < 1e-9, "{count} of {n}: {end}");
            }
        }
        assert_eq!(Score::share(0, 0), Score::new(0.0, 0));
    }

    #[test]
    fn the_floor_is_the_best_of_the_worthless() {
        let mut score = Score::new(0.5, 9);
        score.floors.insert(Worthless::RandomRows, 0.25);
        score.floors.insert(Worthless::Dimensions, 0.125);
        let info = |better| ScoreInfo { name: "core.r2", better, over: "rows" };
        assert_eq!(score.floor(&info(Better::High)), Some((Worthless::RandomRows, 0.25)));
        assert_eq!(score.floor(&info(Better::Low)), Some((Worthless::Dimensions, 0.125)));
        assert_eq!(score.floor(&info(Better::Neither)), None);
    }

    #[test]
    fn dictionaries_are_written_by_their_names() {
        for kind in Worthless::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}

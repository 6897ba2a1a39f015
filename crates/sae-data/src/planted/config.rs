//! What planted data is made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::synth::SynthConfig;
use crate::{Error, Result};

/// Settings of planted data.
///
/// The dictionary, the groups and the manifolds follow from `seed`, a row from `seed` and its
/// number: a held-out store has the same seed and begins with `first_row` where the other ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlantedConfig {
    /// Rows.
    pub n_rows: u64,
    /// Number of the first row.
    pub first_row: u64,
    /// Dimension of a row.
    pub d_model: usize,
    /// Features of the dictionary.
    pub n_features: usize,
    /// Decides everything.
    pub seed: u64,
    /// Fewest active features of a row.
    pub k_min: usize,
    /// Most active features of a row; each number from `k_min` on is equally likely.
    pub k_max: usize,
    /// Features are drawn with probability proportional to rank^(−`frequency_exponent`); 0 makes
    /// them equally frequent.
    pub frequency_exponent: f64,
    /// Features of a group of correlated features.
    pub group_size: usize,
    /// Probability that the next active feature is drawn from the group of one already active.
    pub correlation: f64,
    /// Children of each parent: a child is active only with its parent; 0 for no hierarchy.
    pub children_per_parent: usize,
    /// Mean of the activations a.
    pub magnitude: f64,
    /// Their standard deviation; what falls below a tenth of the mean is raised to it.
    pub magnitude_sd: f64,
    /// Root mean square norm of the noise.
    pub noise: f64,
    /// Norm of a vector added to all rows.
    pub offset: f64,
    /// Smooth low-dimensional structure added to the features.
    pub manifolds: Option<Manifolds>,
    /// Rows of SynthSAEBench's distributions instead; what is above, from `k_min` on, then decides
    /// nothing and must be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synth: Option<SynthConfig>,
    /// Folder of a model of SynthSAEBench's kind that SAELens has saved, whose rows are made
    /// instead; as for `synth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
}

/// Tori, of which each row lies on one.
///
/// A torus of dimension m is Σ_i (cos t_i u_i + sin t_i v_i)·radius/√m with u_i, v_i random unit
/// vectors and t uniform: m numbers decide a point, which takes 2m directions to write down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifolds {
    /// Dimension of each torus; rows fall on each with the same probability.
    pub dimensions: Vec<usize>,
    /// Root mean square norm of the points.
    pub radius: f64,
}

impl Default for PlantedConfig {
    fn default() -> Self {
        Self {
            n_rows: 100_000,
            first_row: 0,
            d_model: 64,
            n_features: 256,
            seed: 0,
            k_min: 2,
            k_max: 14,
            frequency_exponent: 0.5,
            group_size: 8,
            correlation: 0.0,
            children_per_parent: 0,
            magnitude: 1.0,
            magnitude_sd: 0.3,
            noise: 0.05,
            offset: 0.0,
            manifolds: None,
            synth: None,
            model: None,
        }
    }
}

impl PlantedConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Value`] for the first one out of range.
    pub fn check(&self) -> Result<()> {
        let at_least_1 = [
            ("n_rows", self.n_rows),
            ("d_model", self.d_model as u64),
            ("n_features", self.n_features as u64),
            ("group_size", self.group_size as u64),
        ];
        for (field, value) in at_least_1 {
            if value == 0 {
                return Err(Error::value(field, "at least 1", 0));
            }
        }
        // A row's number is its document.
        if self.first_row.checked_add(self.n_rows).is_none_or(|end| end > 1 << 32) {
            return Err(Error::value("first_row", "row numbers that fit 32 bits", self.first_row));
        }
        if u32::try_from(self.n_features).is_err() {
            return Err(Error::value("n_features", "at most 2^32 − 1", self.n_features));
        }
        let is_sum = self.synth.is_none() && self.model.is_none();
        if is_sum && self.k_max > self.n_features {
            let expected = format!("at most n_features {}", self.n_features);
            return Err(Error::value("k_max", expected, self.k_max));
        }
        if self.k_min > self.k_max {
            return Err(Error::value("k_min", format!("at most k_max {}", self.k_max), self.k_min));
        }
        if !(0.0..=1.0).contains(&self.correlation) {
            return Err(Error::value("correlation", "0 to 1", self.correlation));
        }
        let mut not_negative = vec![
            ("frequency_exponent", self.frequency_exponent),
            ("magnitude_sd", self.magnitude_sd),
            ("noise", self.noise),
            ("offset", self.offset),
        ];
        if let Some(manifolds) = &self.manifolds {
            not_negative.push(("manifolds.radius", manifolds.radius));
            if manifolds.dimensions.is_empty() || manifolds.dimensions.contains(&0) {
                let got = format!("{:?}", manifolds.dimensions);
                return Err(Error::value("manifolds.dimensions", "dimensions of at least 1", got));
            }
        }
        for (field, value) in not_negative {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::value(field, "a finite number of at least 0", value));
            }
        }
        if !(self.magnitude.is_finite() && self.magnitude > 0.0) {
            return Err(Error::value("magnitude", "a finite number above 0", self.magnitude));
        }
        self.check_synth()
    }

    fn check_synth(&self) -> Result<()> {
        let key = match (&self.synth, &self.model) {
            (Some(_), Some(model)) => {
                return Err(Error::value("model", "nothing beside `synth`", model.display()));
            }
            (Some(synth), None) => {
                synth.check(self.n_features)?;
                "synth"
            }
            (None, Some(_)) => "model",
            (None, None) => return Ok(()),
        };
        let default = Self::default();
        let not_used = [
            ("k_min", self.k_min == default.k_min),
            ("k_max", self.k_max == default.k_max),
            ("frequency_exponent", self.frequency_exponent == default.frequency_exponent),
            ("group_size", self.group_size == default.group_size),
            ("correlation", self.correlation == default.correlation),
            ("children_per_parent", self.children_per_parent == default.children_per_parent),
            ("magnitude", self.magnitude == default.magnitude),
            ("magnitude_sd", self.magnitude_sd == default.magnitude_sd),
            ("noise", self.noise == default.noise),
            ("offset", self.offset == default.offset),
            ("manifolds", self.manifolds == default.manifolds),
        ];
        match not_used.into_iter().find(|(_, is_default)| !is_default) {
            Some((field, _)) => {
                Err(Error::value(field, format!("nothing beside `{key}`"), "a value"))
            }
            None => Ok(()),
        }
    }
}

//! What an evaluation measures, as written to `eval.json` and read by reports.

mod allocation;
mod host;
mod truth;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use allocation::{Allocation, Complexity, Profile, Spent, SpentText, TokenText};
pub use host::{CrossEntropy, ImagePart, ImageScores, LabelScores, PartScores};
pub use truth::{GroundTruth, LatentScores};

use crate::{Interventions, Scores, Suite, TaskProbes, VisionScores};

/// All metrics of one SAE on one set of held-out rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Rows evaluated.
    pub n_rows: u64,
    /// How well activations are rebuilt.
    pub reconstruction: Reconstruction,
    /// How many features it takes.
    pub sparsity: Sparsity,
    /// k̂ of architectures that choose k per input.
    pub k_hat: Option<KHatStatistics>,
    /// Fidelity of the same dictionary where other rules share out the same number of features, for
    /// architectures that keep the largest.
    #[serde(default)]
    pub allocation: Option<Allocation>,
    /// Whether inputs that are more complex get more features, where numbers of features differ.
    #[serde(default)]
    pub complexity: Option<Complexity>,
    /// Which rows get how many features; none in results of versions that did not measure it.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// The host's loss with the reconstruction spliced in, where a host was given.
    pub cross_entropy: Option<CrossEntropy>,
    /// What a vision host makes of images with the reconstruction spliced in, where they were given.
    #[serde(default)]
    pub images: Option<ImageScores>,
    /// What was found of the features that are there, where they are known.
    #[serde(default)]
    pub ground_truth: Option<GroundTruth>,
    /// The scores of the suites that were asked for.
    #[serde(default, skip_serializing_if = "Scores::is_empty")]
    pub scores: Scores,
    /// These suites, each with the version of its scores.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub suites: BTreeMap<Suite, u32>,
    /// What probes found of each task, where the suite `probing` was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<TaskProbes>,
    /// What interventions on the host show, where the suite was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interventions: Option<Interventions>,
    /// What the features of a vision SAE are of, where the suite was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<VisionScores>,
    /// Whether the activations are of another host or hook point than the model's, which
    /// `--elsewhere` let pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub elsewhere: bool,
    /// In what the activations differ from those that the model was trained on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

impl Evaluation {
    /// Whether it has the scores of a suite as this version computes them.
    #[must_use]
    pub fn is_of(&self, suite: Suite) -> bool {
        // Results without versions are of the first.
        let version = self.suites.get(&suite).copied().unwrap_or(1);
        version == suite.version()
            && suite.scores().iter().any(|info| self.scores.contains_key(info.name))
    }
}

/// How well activations are rebuilt; sums over all rows in f64.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconstruction {
    /// 1 − Σ‖x − x̂‖²/(Σ‖x‖² − N‖μ‖²).
    pub r2: f64,
    /// 1 − Σ_d Var(e_d)/Σ_d Var(x_d), as the published code has it: blind to a constant error.
    pub frac_variance_explained: f64,
    /// Mean of ‖x − x̂‖² over rows.
    pub mse_per_row: f64,
    /// Mean cosine similarity of x and x̂.
    pub cosine: f64,
    /// Mean of ‖x̂‖/‖x‖.
    pub norm_ratio: f64,
    /// E‖x̂‖²/E[x·x̂].
    pub relative_bias: f64,
}

/// How many features are active, and how often each is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sparsity {
    /// Mean number of active features an input.
    pub l0_mean: f64,
    /// Its standard deviation over inputs.
    pub l0_sd: f64,
    /// Its 5th percentile.
    pub l0_p5: f64,
    /// Its median.
    pub l0_p50: f64,
    /// Its 95th percentile.
    pub l0_p95: f64,
    /// Mean sum of activations an input.
    pub l1: f64,
    /// Share of features that never fire.
    pub dead_fraction: f64,
    /// Share of features that fire on more than 1 % of inputs.
    pub dense_fraction_1e2: f64,
    /// Share of features that fire on more than 10 % of inputs.
    pub dense_fraction_1e1: f64,
    /// Number of features by log10 of their firing rate: 10 bins a decade from 1e-6 to 1.
    pub density_histogram: Vec<u64>,
}

/// The distribution of k̂ over inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KHatStatistics {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub sd: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

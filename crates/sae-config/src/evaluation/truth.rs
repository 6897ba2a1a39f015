//! What is found of features that are known.

use serde::{Deserialize, Serialize};

/// What is found of a known dictionary, each of whose features is matched to at most one of the
/// SAE's so that the sum of their absolute cosines is greatest.
///
/// Correlations and slopes are none where one of the two does not vary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// Features of the known dictionary.
    pub n_true_features: u64,
    /// Mean absolute cosine of known features and their matches; 0 for one without a match.
    pub mean_matched_cosine: f64,
    /// Share of known features with a cosine above 0.9.
    pub recovered_above_0_9: f64,
    /// Share of active features whose known feature is active in the same input.
    pub support_precision: f64,
    /// Share of active known features whose match is active in the same input.
    pub support_recall: f64,
    /// Spearman's rank correlation of the number of active features and of the known ones.
    pub spearman_l0_true_l0: Option<f64>,
    /// Slope of the number of active features on that of the known ones, by least squares.
    pub slope_l0: Option<f64>,
    /// Spearman's rank correlation of k̂ and the number of active known features.
    pub spearman_k_hat: Option<f64>,
    /// Slope of k̂ on the number of active known features, by least squares.
    pub slope_k_hat: Option<f64>,
    /// The scores of SynthSAEBench; none in results of versions that did not measure them.
    #[serde(default)]
    pub latents: Option<LatentScores>,
}

/// Features of an SAE as detectors of known features, by the definitions of SynthSAEBench
/// (`sae_lens.synthetic.evals`).
///
/// Each feature of the SAE stands for the known feature of greatest absolute cosine, which others
/// may stand for too; precision, recall, F1 and accuracy of whether it is active are computed for
/// each feature over all inputs, 0 where they are 0/0, and averaged over the SAE's features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentScores {
    /// Mean of TP/(TP + FP).
    pub precision: f64,
    /// Mean of TP/(TP + FN).
    pub recall: f64,
    /// Mean of 2·precision·recall/(precision + recall).
    pub f1: f64,
    /// Mean of (TP + TN)/inputs.
    pub accuracy: f64,
    /// Mean absolute cosine of the pairs of a one-to-one matching in which its sum is greatest;
    /// there are as many pairs as the smaller of the two dictionaries has features.
    pub mcc: f64,
    /// Known features that some feature of the SAE stands for, over the SAE's features.
    pub uniqueness: f64,
    /// Mean number of active known features.
    pub true_l0: f64,
}

//! What `softsae compare` measures.

use serde::{Deserialize, Serialize};

/// How far two dictionaries share their features, by the directions of their decoders.
///
/// Cosines are absolute: a direction and its opposite count as the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Features of the first and of the second that were compared: all, or those that are active
    /// on rows that were given.
    pub n_features: [usize; 2],
    /// The scores of the two dictionaries.
    pub scores: SharedFeatures,
    /// The scores of random directions of the same numbers and dimension, in the place of the second.
    pub floor: SharedFeatures,
    /// What becomes of the features of the smaller dictionary (of two of one size, the first) in
    /// the larger.
    pub fates: Fates,
    /// The features of the smaller dictionary, in their order.
    pub features: Vec<FeatureMatch>,
}

/// How far the features of two dictionaries are the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SharedFeatures {
    /// PW-MCC (Song et al. 2025, arXiv:2505.20254): mean cosine of the pairs of the one-to-one
    /// matching in which their sum is greatest; each feature of the smaller dictionary has a pair.
    pub pw_mcc: f64,
    /// Share of these pairs with a cosine of at least 0.7.
    pub shared: f64,
    /// Mean, over the features of the first and of the second, of the greatest cosine with any
    /// feature of the other.
    pub mean_max_cosine: [f64; 2],
}

/// Numbers of features by what becomes of them in a larger dictionary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    /// A feature of the other has a cosine of at least 0.7 with them.
    pub kept: usize,
    /// None has, and they are the nearest feature, at a cosine of at least 0.4, of two or more.
    pub split: usize,
    /// None has, and they are so for one.
    pub changed: usize,
    /// For none.
    pub lost: usize,
}

/// What becomes of a feature in a larger dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// As [`Fates::kept`].
    Kept,
    /// As [`Fates::split`].
    Split,
    /// As [`Fates::changed`].
    Changed,
    /// As [`Fates::lost`].
    Lost,
}

/// A feature of the smaller dictionary, and the features of the larger that are like it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureMatch {
    /// The feature.
    pub feature: usize,
    /// The feature of the larger that it is paired with in the one-to-one matching.
    pub pair: usize,
    /// Cosine of the pair.
    pub pair_cosine: f64,
    /// The feature of the larger that is nearest to it.
    pub nearest: usize,
    /// Its cosine.
    pub nearest_cosine: f64,
    /// Features of the larger whose nearest feature it is, at a cosine of at least 0.4.
    pub nearest_of: usize,
    /// What becomes of it.
    pub fate: Fate,
}

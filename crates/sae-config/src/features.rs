//! What is known of the features of an SAE, as feature pages show it.

use serde::{Deserialize, Serialize};

use crate::{Confusion, HeldOut};

/// What the features of one SAE over one store have in common.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureSet {
    /// The checkpoint's folder.
    pub checkpoint: String,
    /// Hash of the checkpoint.
    pub checkpoint_hash: String,
    /// The architecture's name.
    pub architecture: String,
    /// The store's path.
    pub store: String,
    /// Hash of the store.
    pub store_hash: String,
    /// The host's name, where known.
    pub host: Option<String>,
    /// The hook point, where known.
    pub hook_point: Option<String>,
    /// Rows of the store.
    pub n_rows: u64,
    /// Stretches of rows that are of one document and in the order of their positions; rows of a store
    /// without places are each alone.
    pub n_contexts: u64,
    /// Size of the dictionary.
    pub n_features: usize,
    /// Mean number of active features a row.
    pub l0: f64,
    /// Median norm of the rows that are not zero.
    pub median_norm: f64,
    /// Rows of more than ten times the median norm.
    pub n_outlier_rows: u64,
    /// Rows from which the co-activations are computed: all, or a uniform sample.
    pub n_coactivation_rows: u64,
    /// Tokens shown on each side of the largest one.
    pub window: usize,
    /// Seed of the samples.
    pub seed: u64,
    /// Mean and standard deviation of k̂, for architectures that choose k per input.
    pub k_hat: Option<[f64; 2]>,
    /// Whether rows have token ids.
    pub has_tokens: bool,
    /// The pictures, where rows are of them and these are shown.
    pub pictures: Option<PictureSet>,
    /// What is missing or has to be known by the reader.
    pub notes: Vec<String>,
}

/// Pictures that a host reads as patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureSet {
    /// Patches from top to bottom.
    pub rows: usize,
    /// Patches from left to right.
    pub columns: usize,
    /// The position of the first patch: 1 where a class token comes before them.
    pub first_patch: usize,
    /// Pictures in a file.
    pub per_file: usize,
}

/// What is known of a feature.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureRecord {
    /// Its number.
    pub feature: u32,
    /// Rows in which it is active: not 0.
    pub n_active: u64,
    /// Mean activation where active.
    pub mean: f64,
    /// The activation of largest magnitude.
    pub max: f32,
    /// Norm of its decoder row, in the units of the activations where rows share a scale.
    pub decoder_norm: f32,
    /// The largest components of its decoder row, in the same units, the largest first.
    pub components: Vec<Component>,
    /// Activations that are not 0.
    pub histogram: Histogram,
    /// The contexts of the activations of largest magnitude, the largest first; none lies in the
    /// window of an earlier one.
    pub top: Vec<FeatureContext>,
    /// The activations in five groups of equal size by magnitude, the smallest first.
    pub quantiles: Vec<Quantile>,
    /// The features of highest cosine between decoder rows.
    pub cosine: Vec<Neighbor>,
    /// The features of highest correlation of activations, of those active in a row with it.
    pub pearson: Vec<Neighbor>,
    /// Cosine of its activations over rows with those of each of `pearson`.
    pub pearson_cosine: Vec<f32>,
    /// The features that share most rows: |both active| / |either active|.
    pub jaccard: Vec<Neighbor>,
    /// What its decoder row does to the host's logits.
    pub attribution: Option<Attribution>,
    /// How its activity goes with k̂.
    pub k_hat: Option<FeatureKHat>,
    /// Contexts to judge a description by.
    pub held_out: HeldOut,
    /// How well a classifier by n-grams of the contexts that are shown tells the held-out ones.
    pub n_gram: Option<Confusion>,
}

/// Counts in bins of equal width.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Where the first bin begins.
    pub from: f32,
    /// Where the last bin ends.
    pub to: f32,
    /// Values in each bin; empty without values.
    pub counts: Vec<u64>,
}

/// A place where a feature is active.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureContext {
    /// The row of the store.
    pub row: u64,
    /// Its document and position, where the store knows them.
    pub place: Option<[u32; 2]>,
    /// The activation.
    pub value: f32,
    /// Which of the tokens the row is of.
    pub at: usize,
    /// The token and its neighbours in the store; none where tokens are not known.
    pub tokens: Vec<ContextToken>,
    /// Where rows are of pictures, the positions of the picture at which the feature is active.
    pub patches: Vec<Patch>,
}

/// A position of a picture, and the feature's activation there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Patch {
    /// The position.
    pub position: u32,
    /// The activation.
    pub value: f32,
}

/// A token of a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ContextToken {
    /// Its id.
    pub id: u32,
    /// The feature's activation.
    pub value: f32,
    /// Tokens between the one before and this one that the store does not have.
    pub gap: u32,
    /// Whether its row has more than ten times the median norm.
    pub is_outlier: bool,
}

/// A fifth of a feature's activations by magnitude.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// The smallest magnitude.
    pub from: f32,
    /// The largest magnitude.
    pub to: f32,
    /// Activations in it.
    pub n: u64,
    /// A uniform sample of them.
    pub contexts: Vec<FeatureContext>,
}

/// Another feature and how near it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Its number.
    pub feature: u32,
    /// The cosine, correlation or share.
    pub value: f32,
}

/// A component of a decoder row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Which dimension of the activations.
    pub dimension: u32,
    /// Its value.
    pub value: f32,
    /// Its share of the sum of magnitudes.
    pub share: f32,
}

/// The logits that the host's head gives of a decoder row alone, scaled to a root mean square of 1,
/// less those of zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The tokens of the largest logits, the largest first.
    pub promoted: Vec<TokenLogit>,
    /// Those of the smallest, the smallest first.
    pub suppressed: Vec<TokenLogit>,
    /// All logits.
    pub histogram: Histogram,
}

/// A token and its logit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenLogit {
    /// The token's id.
    pub id: u32,
    /// The logit.
    pub value: f32,
}

/// How a feature's activity goes with the number of features chosen for a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureKHat {
    /// Mean k̂ of the rows in which it is active.
    pub mean: f64,
    /// Correlation of k̂ and whether it is active; none where one of the two does not vary.
    pub correlation: Option<f64>,
}

//! What the features of a vision SAE are of: which images, which part of them.

use serde::{Deserialize, Serialize};

/// Scores of features over images; each with what it is where images are dealt out anew to
/// activations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisionScores {
    /// Images.
    pub n_images: u64,
    /// Features that are active on five images at least: the others count in nothing below.
    pub n_features: u64,
    /// How alike the images of a feature are to another encoder, the mean over features; none without
    /// one.
    pub monosemanticity: Option<AgainstChance>,
    /// Share of the images on which a feature is most active, twenty at most, that have the label most
    /// frequent among them; the mean over features. None where fewer than two labels are known.
    pub label_purity: Option<AgainstChance>,
    /// The same of what is in the patches on which it is most active, one an image: object or
    /// background. None without transparent images.
    pub part_purity: Option<AgainstChance>,
    /// How well the features that differ most tell an image's label from the others; none where no
    /// label has ten images.
    pub label_probing: Option<LabelProbing>,
    /// Mean k̂, or number of active features where there is none, on objects and on the background;
    /// none without transparent images.
    pub spent: Option<SpentOnParts>,
}

/// A mean over features, and what chance gives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AgainstChance {
    /// The mean.
    pub value: f64,
    /// Standard error of the mean over features.
    pub standard_error: f64,
    /// The mean with images dealt out anew to activations.
    pub chance: f64,
    /// Features.
    pub n: u64,
}

/// Probes that tell the images of a label from all others, the mean over labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelProbing {
    /// Labels.
    pub n_labels: u64,
    /// Area under the curve of probes on so many features.
    pub auc: Vec<AucOf>,
    /// That of a probe on the mean activations themselves.
    pub auc_dense: f64,
}

/// Area under the curve of probes on some features.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AucOf {
    /// Features.
    pub k: u64,
    /// Mean area over labels.
    pub auc: f64,
    /// Its standard error over labels; none of a single one.
    #[serde(default)]
    pub standard_error: Option<f64>,
}

/// What is spent on objects and on their background.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpentOnParts {
    /// On patches of objects.
    pub object: f64,
    /// On patches of background.
    pub background: f64,
    /// Standard error of the difference, over images.
    pub standard_error: f64,
}

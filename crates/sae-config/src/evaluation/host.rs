//! What a host makes of texts and images with the reconstruction in place of its activations.

use serde::{Deserialize, Serialize};

use super::Spent;

/// The host's next-token loss on held-out text, in nats a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossEntropy {
    /// Predictions counted.
    pub n_tokens: u64,
    /// With the host untouched.
    pub clean: f64,
    /// With the reconstruction in place of the activations.
    pub spliced: f64,
    /// With zeros in place of the activations.
    pub zero: f64,
    /// (zero − spliced)/(zero − clean).
    pub ce_recovered: f64,
    /// KL from the clean to the spliced prediction.
    pub kl_spliced: f64,
    /// KL from the clean prediction to the one with zeros.
    pub kl_zero: f64,
    /// 1 − kl_spliced/kl_zero.
    pub kl_recovered: f64,
    /// Spearman's rank correlation of the number of active features at a position and the loss of
    /// the untouched host on the token after it; none where one of the two does not vary.
    #[serde(default)]
    pub spearman_l0_next_loss: Option<f64>,
    /// The same with the loss on the token at the position itself.
    #[serde(default)]
    pub spearman_l0_own_loss: Option<f64>,
    /// In ten groups of equal size, by the untouched host's loss on the next token.
    #[serde(default)]
    pub by_next_loss: Vec<Spent>,
}

/// What a vision host makes of held-out images with the reconstruction in place of its activations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageScores {
    /// Images that the host embedded.
    pub n_images: u64,
    /// Mean cosine of an image's embedding with the reconstruction spliced in and that of the
    /// untouched host.
    pub cosine: f64,
    /// The same with the mean of the activations in place of each.
    pub cosine_mean: f64,
    /// (cosine − cosine_mean)/(1 − cosine_mean).
    pub embedding_recovered: f64,
    /// Its standard error over images; none of a single one.
    #[serde(default)]
    pub standard_error: Option<f64>,
    /// Whether images still find those of their label; none where no two share one.
    pub labels: Option<LabelScores>,
    /// Sparsity and fidelity by what is in a patch.
    pub parts: Vec<PartScores>,
}

/// How often the nearest other image, by the cosine of its embedding by the untouched host, has the
/// label of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelScores {
    /// Images with a label that another has too.
    pub n_images: u64,
    /// Their labels: the folders that they are in.
    pub n_labels: u64,
    /// The share, of images as the untouched host embeds them.
    pub clean: f64,
    /// With the reconstruction spliced in.
    pub spliced: f64,
    /// With the mean of the activations in place of each.
    pub mean: f64,
}

/// What is in a position of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImagePart {
    /// The class token.
    ClassToken,
    /// A patch of which at least 95 % are opaque, in an image that is transparent somewhere.
    Object,
    /// A patch between the two.
    Edge,
    /// One of which at most 5 % are.
    Background,
    /// A patch of an image without transparency.
    Patch,
}

impl ImagePart {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ClassToken, Self::Object, Self::Edge, Self::Background, Self::Patch];

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClassToken => "class_token",
            Self::Object => "object",
            Self::Edge => "edge",
            Self::Background => "background",
            Self::Patch => "patch",
        }
    }
}

/// Sparsity and fidelity on the positions of images that hold the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartScores {
    /// What they hold.
    pub part: ImagePart,
    /// Their number.
    pub n_rows: u64,
    /// Mean number of active features.
    pub l0_mean: f64,
    /// Its standard deviation.
    pub l0_sd: f64,
    /// Mean k̂, of architectures that choose k per input.
    pub k_hat_mean: Option<f64>,
    /// 1 − Σ‖x − x̂‖²/Σ‖x − μ‖², with μ the mean of all activations; none where each is μ.
    pub r2: Option<f64>,
    /// Spearman's rank correlation of the number of active features and the standard deviation of
    /// the patch's pixels; none for the class token and where one of the two does not vary.
    pub spearman_l0_contrast: Option<f64>,
}

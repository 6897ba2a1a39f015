//! What an evaluation measures, as written to `eval.json` and read by reports.

use serde::{Deserialize, Serialize};

use crate::{Interventions, Scores, TaskProbes, VisionScores};

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

/// R² of one dictionary with the same mean number of active features, shared out over rows by
/// different rules. Features come in the order of their activations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// Mean number of active features.
    pub l0: f64,
    /// The same number in every row.
    pub r2_uniform: f64,
    /// One threshold on activations for all rows.
    pub r2_threshold: f64,
    /// The best there is, which takes knowledge of each row's error: a bound of what any k̂ gives.
    pub r2_oracle: f64,
    /// Standard deviation of the best numbers.
    pub l0_sd_oracle: f64,
}

/// The intrinsic dimension of activations by TwoNN, and how the number of active features goes
/// with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Complexity {
    /// Rows it was estimated from.
    pub n_rows: u64,
    /// Intrinsic dimension of all of them.
    pub dimension: f64,
    /// Spearman's rank correlation of the number of active features of a row and the intrinsic
    /// dimension of its neighbourhood.
    pub spearman_l0_dimension: Option<f64>,
}

/// Which rows get how many features, and how well they are rebuilt. A list is empty where the store
/// does not know what it is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// By position in the context: 0, 1, 2 to 3, 4 to 7, and so forth.
    pub by_position: Vec<Spent>,
    /// By document, where there are at most 16.
    pub by_document: Vec<Spent>,
    /// By how often the row's token is in the store: once, 2 to 3 times, 4 to 7 times, and so forth.
    pub by_frequency: Vec<Spent>,
    /// In ten groups of equal size, by the share of their squared norm that is not rebuilt.
    pub by_error: Vec<Spent>,
    /// The stretches of text that get fewest features, the fewest first, where numbers of features
    /// differ and the texts of tokens are known.
    pub fewest: Vec<SpentText>,
    /// Those that get most, the most first.
    pub most: Vec<SpentText>,
}

/// What rows of a group get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// The least of what the group is made by.
    pub from: f64,
    /// The largest.
    pub to: f64,
    /// Rows.
    pub n: u64,
    /// Mean number of active features.
    pub l0: f64,
    /// Mean k̂, where the architecture chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k_hat: Option<f64>,
    /// Σ‖x − x̂‖²/Σ‖x‖², where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

/// Neighbouring rows of one text, and how many features each gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpentText {
    /// The document.
    pub document: u32,
    /// The position of the first row.
    pub position: u32,
    /// Mean of `values`.
    pub mean: f64,
    /// The tokens; none for one whose text is not known.
    pub tokens: Vec<Option<TokenText>>,
    /// k̂ of each row, or its number of active features where the architecture has no k̂.
    pub values: Vec<f32>,
}

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenText {
    /// Whole characters.
    Whole(String),
    /// Bytes that are none.
    Broken(Vec<u8>),
}

impl From<&[u8]> for TokenText {
    fn from(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes);
        text.map_or_else(|_| Self::Broken(bytes.to_owned()), |text| Self::Whole(text.to_owned()))
    }
}

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

//! How active features are shared out over rows.

use serde::{Deserialize, Serialize};

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

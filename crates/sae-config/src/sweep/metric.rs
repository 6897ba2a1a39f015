//! What runs of a sweep are ranked by.

use serde::{Deserialize, Serialize};

use crate::Evaluation;

/// What runs are ranked by. More is better for each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// R².
    #[default]
    R2,
    /// The fraction of the variance explained, as the published code has it.
    Fve,
    /// The part of the host's loss that the reconstruction keeps; needs a host that reads texts.
    CeRecovered,
    /// The same of the divergence of its predictions.
    KlRecovered,
    /// The part of the embeddings of images that the reconstruction keeps; needs a host that sees
    /// images.
    EmbeddingRecovered,
    /// The mean cosine of true features and those found; needs data whose features are known.
    MatchedCosine,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::R2,
        Self::Fve,
        Self::CeRecovered,
        Self::KlRecovered,
        Self::EmbeddingRecovered,
        Self::MatchedCosine,
    ];

    /// The name in files, and the column of `results.csv`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::R2 => "r2",
            Self::Fve => "fve",
            Self::CeRecovered => "ce_recovered",
            Self::KlRecovered => "kl_recovered",
            Self::EmbeddingRecovered => "embedding_recovered",
            Self::MatchedCosine => "matched_cosine",
        }
    }

    /// Its value, where it was measured.
    #[must_use]
    pub fn of(self, evaluation: &Evaluation) -> Option<f64> {
        match self {
            Self::R2 => Some(evaluation.reconstruction.r2),
            Self::Fve => Some(evaluation.reconstruction.frac_variance_explained),
            Self::CeRecovered => Some(evaluation.cross_entropy.as_ref()?.ce_recovered),
            Self::KlRecovered => Some(evaluation.cross_entropy.as_ref()?.kl_recovered),
            Self::EmbeddingRecovered => Some(evaluation.images.as_ref()?.embedding_recovered),
            Self::MatchedCosine => Some(evaluation.ground_truth.as_ref()?.mean_matched_cosine),
        }
    }
}

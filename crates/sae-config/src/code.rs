//! What inference needs of an architecture: the part of its settings that a model is saved with.

mod check;
mod soft;

use serde::{Deserialize, Serialize};

use crate::groups::group_sizes;
use crate::{ArchitectureConfig, Parity};

pub use soft::{EstimatorNetwork, Rounding, SoftCode};

/// How a dictionary codes its inputs, whatever it was trained by.
///
/// A model is built from it and saved with it; how it is trained is a [`Recipe`](crate::Recipe).
/// Variants without fields have braces, so that a key in a file that they do not know is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", deny_unknown_fields)]
pub enum Code {
    /// The k largest features of each input.
    #[serde(rename = "topk")]
    TopK {
        /// Active features an input.
        k: usize,
    },
    /// The k features of largest magnitude of each input, with their sign.
    #[serde(rename = "abs_topk")]
    AbsTopK {
        /// Active features an input.
        k: usize,
    },
    /// Features above a threshold.
    #[serde(rename = "batch_topk")]
    BatchTopK {
        /// The mean number of active features that the threshold is for.
        k: usize,
    },
    /// BatchTopK whose prefixes are dictionaries too.
    #[serde(rename = "matryoshka_batch_topk")]
    MatryoshkaBatchTopK {
        /// The mean number of active features that the threshold is for.
        k: usize,
        /// Features of each group; prefixes of groups are dictionaries.
        group_sizes: Vec<usize>,
    },
    /// SoftSAE: the number of features is estimated for each input.
    #[serde(rename = "soft")]
    Soft(SoftCode),
    /// A threshold per feature.
    #[serde(rename = "jumprelu")]
    JumpRelu {
        /// Whether b_dec is subtracted from the input.
        subtract_b_dec: bool,
    },
    /// A gate decides, a magnitude measures.
    #[serde(rename = "gated")]
    Gated {},
    /// ReLU.
    #[serde(rename = "standard")]
    Standard {},
    /// ReLU; rows of the decoder may have any norm.
    #[serde(rename = "standard_april")]
    StandardApril {},
    /// ReLU, trained by an annealed penalty.
    #[serde(rename = "p_anneal")]
    PAnneal {},
}

/// What training keeps of the features of a batch, where their number is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The k largest of each row.
    OfRows,
    /// The k of largest magnitude of each row, with their sign.
    MagnitudesOfRows,
    /// The k·B largest of a batch of B rows.
    OfBatch,
}

impl Code {
    /// What training keeps of the features of a batch, where their number is given.
    #[must_use]
    pub const fn kept(&self) -> Option<Kept> {
        match self {
            Self::TopK { .. } => Some(Kept::OfRows),
            Self::AbsTopK { .. } => Some(Kept::MagnitudesOfRows),
            Self::BatchTopK { .. } | Self::MatryoshkaBatchTopK { .. } => Some(Kept::OfBatch),
            Self::Soft(_)
            | Self::JumpRelu { .. }
            | Self::Gated {}
            | Self::Standard {}
            | Self::StandardApril {}
            | Self::PAnneal {} => None,
        }
    }

    /// The name of the architecture.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TopK { .. } => "topk",
            Self::AbsTopK { .. } => "abs_topk",
            Self::BatchTopK { .. } => "batch_topk",
            Self::MatryoshkaBatchTopK { .. } => "matryoshka_batch_topk",
            Self::Soft(_) => "soft",
            Self::JumpRelu { .. } => "jumprelu",
            Self::Gated {} => "gated",
            Self::Standard {} => "standard",
            Self::StandardApril {} => "standard_april",
            Self::PAnneal {} => "p_anneal",
        }
    }

    /// The number of active features an input, where the code has one: exact or a mean.
    #[must_use]
    pub const fn k(&self) -> Option<usize> {
        match self {
            Self::TopK { k }
            | Self::AbsTopK { k }
            | Self::BatchTopK { k }
            | Self::MatryoshkaBatchTopK { k, .. }
            | Self::Soft(SoftCode { k, .. }) => Some(*k),
            Self::JumpRelu { .. }
            | Self::Gated {}
            | Self::Standard {}
            | Self::StandardApril {}
            | Self::PAnneal {} => None,
        }
    }
}

impl ArchitectureConfig {
    /// The code of a model of these sizes.
    #[must_use]
    pub fn code(&self, d_model: usize, n_features: usize, parity: Parity) -> Code {
        match self {
            Self::TopK(c) => Code::TopK { k: c.k },
            Self::AbsTopK(c) => Code::AbsTopK { k: c.k },
            Self::BatchTopK(c) => Code::BatchTopK { k: c.k },
            Self::MatryoshkaBatchTopK(c) => Code::MatryoshkaBatchTopK {
                k: c.k,
                group_sizes: group_sizes(&c.group_fractions, n_features),
            },
            Self::Soft(c) => Code::Soft(c.code(d_model, n_features, parity)),
            Self::JumpRelu(c) => Code::JumpRelu { subtract_b_dec: c.subtract_b_dec },
            Self::Gated(_) => Code::Gated {},
            Self::Standard(_) => Code::Standard {},
            Self::StandardApril(_) => Code::StandardApril {},
            Self::PAnneal(_) => Code::PAnneal {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::architectures;

    #[test]
    fn codes_are_written_by_their_names_and_refuse_other_keys() {
        for architecture in architectures() {
            let code = architecture.code(16, 64, Parity::None);
            assert_eq!(code.name(), architecture.name());
            let mut written = serde_json::to_value(&code).unwrap();
            assert_eq!(written["name"], code.name());
            assert_eq!(serde_json::from_value::<Code>(written.clone()).unwrap(), code);
            written["seed"] = 1.into();
            let error = serde_json::from_value::<Code>(written).unwrap_err().to_string();
            assert!(error.contains("unknown field `seed`"), "{}: {error}", code.name());
        }
    }

    #[test]
    fn a_code_has_what_inference_needs() {
        let code = |text: &str, parity: Parity| {
            toml::from_str::<ArchitectureConfig>(text).unwrap().code(16, 64, parity)
        };
        let soft = "name = 'soft'\nk = 4\nk_estimator = { narrow = { width = 5 } }";
        let expected = SoftCode {
            k: 4,
            k_max: 16.0,
            k_min: 1.0,
            alpha: 1e-4,
            rounding: Rounding::Nearest,
            k_estimator: EstimatorNetwork::TwoLayers { hidden_units: 5 },
        };
        assert_eq!(code(soft, Parity::None), Code::Soft(expected.clone()));
        let official = SoftCode { k_max: 8.0, rounding: Rounding::Down, ..expected };
        assert_eq!(code(soft, Parity::Official), Code::Soft(official));
        let groups = "name = 'matryoshka_batch_topk'\nk = 4\ngroup_fractions = [0.3, 0.7]";
        let expected = Code::MatryoshkaBatchTopK { k: 4, group_sizes: vec![19, 45] };
        assert_eq!(code(groups, Parity::None), expected);
    }
}

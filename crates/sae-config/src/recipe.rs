//! How a dictionary is trained: the settings of an architecture with every default decided.

use crate::{
    AuxKConfig, Budget, GatedConfig, JumpReluConfig, PAnnealConfig, Parity, SelectionGradient,
    StandardAprilConfig, StandardConfig,
};

/// How a dictionary is trained, beside what all architectures share.
///
/// What inference needs of the settings is a [`Code`](crate::Code).
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// A given number of features: TopK, AbsTopK, BatchTopK and Matryoshka BatchTopK, which differ
    /// in what [`Code::kept`](crate::Code::kept) says.
    TopK(TopKRecipe),
    /// SoftSAE.
    Soft(SoftRecipe),
    /// JumpReLU.
    JumpRelu(JumpReluConfig),
    /// Gated.
    Gated(GatedConfig),
    /// Standard.
    Standard(StandardConfig),
    /// Standard with the April update.
    StandardApril(StandardAprilConfig),
    /// P-anneal.
    PAnneal(PAnnealConfig),
}

/// The number of active features that training aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KTarget {
    /// At the end.
    pub k: usize,
    /// Steps over which it falls linearly from d_model.
    pub anneal_steps: u64,
    /// In the very first step, where it is annealed and that is not d_model.
    pub first: Option<usize>,
}

/// How a given number of features is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TopKRecipe {
    /// Features an input.
    pub k: KTarget,
    /// The step after which the threshold of inference is tracked, where there is one.
    pub threshold_start_step: Option<u64>,
    /// Where each prefix of the dictionary ends that reconstructs by itself, and its weight.
    pub prefixes: Vec<(usize, f64)>,
    /// Revival of dead features.
    pub auxk: AuxKConfig,
}

/// How SoftSAE is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftRecipe {
    /// Target of mean k̂.
    pub k: KTarget,
    /// Upper bound of k̂.
    pub k_max: f64,
    /// Temperature α of the soft top-k at its end.
    pub alpha: f64,
    /// α at the start, where it is annealed.
    pub alpha_start: f64,
    /// α in the very first step, where it is annealed.
    pub alpha_first: f64,
    /// Steps over which α falls linearly; 0 keeps it at `alpha`.
    pub alpha_anneal_steps: u64,
    /// The first step with the hard selection of inference.
    pub hard_from: u64,
    /// Weight λ_k of the budget loss.
    pub k_loss_weight: f64,
    /// Sharpness β of its softplus.
    pub k_loss_beta: f64,
    /// How mean k̂ is held at k.
    pub budget: Budget,
    /// Factor of the learning rate for the k-estimator.
    pub k_estimator_lr: f64,
    /// Width of the neighbourhood that k̂'s gradient is taken over; 0: that of the operator.
    pub k_gradient_window: usize,
    /// Where the gradient of the selection goes.
    pub selection_gradient: SelectionGradient,
    /// Where each prefix of the dictionary ends that reconstructs by itself, and its weight.
    pub prefixes: Vec<(usize, f64)>,
    /// Revival of dead features.
    pub auxk: AuxKConfig,
}

impl KTarget {
    /// A target that is fixed, or falls to `k`; the published code has the final one in the very
    /// first step.
    pub(crate) fn new(k: usize, anneal_steps: u64, parity: Parity) -> Self {
        Self { k, anneal_steps, first: (parity == Parity::Official).then_some(k) }
    }
}

impl Recipe {
    /// Where each prefix of the dictionary ends that reconstructs by itself, and its weight: of most
    /// architectures the whole dictionary alone.
    #[must_use]
    pub fn prefixes(&self, n_features: usize) -> Vec<(usize, f64)> {
        match self {
            Self::TopK(c) => c.prefixes.clone(),
            Self::Soft(c) => c.prefixes.clone(),
            Self::JumpRelu(_)
            | Self::Gated(_)
            | Self::Standard(_)
            | Self::StandardApril(_)
            | Self::PAnneal(_) => vec![(n_features, 1.0)],
        }
    }
}

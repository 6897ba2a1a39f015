//! How a dictionary is trained: the settings of an architecture with every default decided.

use crate::groups::prefixes;
use crate::{
    ArchitectureConfig, AuxKConfig, Budget, CheckedTraining, GatedConfig, JumpReluConfig,
    PAnnealConfig, Parity, SelectionGradient, SoftConfig, StandardAprilConfig, StandardConfig,
    TopKConfig,
};

/// How a dictionary is trained, beside what all architectures share.
///
/// What inference needs of the settings is a [`Code`](crate::Code).
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// TopK.
    TopK(TopKRecipe),
    /// AbsTopK.
    AbsTopK(TopKRecipe),
    /// BatchTopK.
    BatchTopK(TopKRecipe),
    /// Matryoshka BatchTopK.
    MatryoshkaBatchTopK(TopKRecipe),
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
    /// The step after which the threshold of inference is tracked; none of AbsTopK, which has no
    /// threshold.
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

impl Recipe {
    pub(crate) fn new(
        architecture: &ArchitectureConfig,
        n_features: usize,
        training: &CheckedTraining,
    ) -> Self {
        let whole = || vec![(n_features, 1.0)];
        let target = |k: usize, anneal_steps: u64| KTarget {
            k,
            anneal_steps,
            first: (training.parity == Parity::Official).then_some(k),
        };
        let top_k = |c: &TopKConfig| TopKRecipe {
            k: target(c.k, c.k_anneal_steps),
            threshold_start_step: Some(c.threshold_start(training.steps)),
            prefixes: whole(),
            auxk: c.auxk.clone(),
        };
        match architecture {
            ArchitectureConfig::TopK(c) => Self::TopK(top_k(c)),
            ArchitectureConfig::BatchTopK(c) => Self::BatchTopK(top_k(c)),
            ArchitectureConfig::AbsTopK(c) => Self::AbsTopK(TopKRecipe {
                k: target(c.k, c.k_anneal_steps),
                threshold_start_step: None,
                prefixes: whole(),
                auxk: c.auxk.clone(),
            }),
            ArchitectureConfig::MatryoshkaBatchTopK(c) => Self::MatryoshkaBatchTopK(TopKRecipe {
                k: target(c.k, c.k_anneal_steps),
                threshold_start_step: Some(c.threshold_start(training.steps)),
                prefixes: prefixes(&c.group_fractions, c.group_weights.as_deref(), n_features),
                auxk: c.auxk.clone(),
            }),
            ArchitectureConfig::Soft(c) => {
                let target = target(c.k, c.k_anneal_steps);
                Self::Soft(soft(c, target, n_features, training))
            }
            ArchitectureConfig::JumpRelu(c) => Self::JumpRelu(c.clone()),
            ArchitectureConfig::Gated(c) => Self::Gated(c.clone()),
            ArchitectureConfig::Standard(c) => Self::Standard(c.clone()),
            ArchitectureConfig::StandardApril(c) => Self::StandardApril(c.clone()),
            ArchitectureConfig::PAnneal(c) => Self::PAnneal(c.clone()),
        }
    }

    /// Where each prefix of the dictionary ends that reconstructs by itself, and its weight: of most
    /// architectures the whole dictionary alone.
    #[must_use]
    pub fn prefixes(&self, n_features: usize) -> Vec<(usize, f64)> {
        match self {
            Self::TopK(c)
            | Self::AbsTopK(c)
            | Self::BatchTopK(c)
            | Self::MatryoshkaBatchTopK(c) => c.prefixes.clone(),
            Self::Soft(c) => c.prefixes.clone(),
            Self::JumpRelu(_)
            | Self::Gated(_)
            | Self::Standard(_)
            | Self::StandardApril(_)
            | Self::PAnneal(_) => vec![(n_features, 1.0)],
        }
    }
}

fn soft(
    config: &SoftConfig,
    target: KTarget,
    n_features: usize,
    training: &CheckedTraining,
) -> SoftRecipe {
    let official = training.parity == Parity::Official;
    let soft_steps = training.steps - config.hard_steps.min(training.steps);
    SoftRecipe {
        k: KTarget { first: config.k_first.or(target.first), ..target },
        k_max: config.k_bound(training.parity),
        alpha: config.alpha,
        alpha_start: config.alpha_start,
        alpha_first: config.alpha_first.unwrap_or(config.alpha_start),
        alpha_anneal_steps: config.alpha_anneal_steps,
        // The published code begins a step late.
        hard_from: soft_steps + u64::from(official),
        k_loss_weight: config.k_loss_weight,
        k_loss_beta: config.k_loss_beta,
        budget: config.budget(training.parity),
        k_estimator_lr: config.k_estimator_lr,
        k_gradient_window: config.window(training.parity),
        selection_gradient: config.selection_gradient,
        prefixes: prefixes(&config.group_fractions, config.group_weights.as_deref(), n_features),
        auxk: config.auxk.clone(),
    }
}

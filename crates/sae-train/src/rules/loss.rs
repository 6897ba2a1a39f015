//! What a rule returns: the loss with its terms, the features, and what else is known.

use sae_models::Codes;
use tch::{Kind, Tensor};
use tch_autograd::read;

/// The loss of a batch, before its update.
pub(crate) struct Loss {
    /// What is known of it; its total is what is differentiated.
    pub(crate) facts: Facts,
    /// Which features are active in any row `[n_features]`.
    pub(crate) fired: Tensor,
    /// The numbers that the rule learns from where the step is taken.
    pub(crate) signal: Option<Tensor>,
}

/// What is known of a step: numbers on its device, which are read when somebody asks.
pub(crate) struct Facts {
    /// The loss.
    pub(crate) total: Tensor,
    /// Its terms, weighted.
    pub(crate) parts: Vec<(&'static str, Tensor)>,
    /// The features, or how many are active.
    pub(crate) features: Active,
    /// What the rule knows beyond that.
    pub(crate) detail: Detail,
}

/// The features of a batch, from which their mean number is read when somebody asks, or that
/// number itself.
#[derive(Debug)]
pub(crate) enum Active {
    /// `[batch, n_features]`.
    Features(Tensor),
    /// Those of a selection, and the rows of the batch.
    Chosen(Tensor, i64),
    /// Mean number of active features a row, in f64.
    Mean(Tensor),
}

impl From<&Codes> for Active {
    fn from(codes: &Codes) -> Self {
        Self::Chosen(codes.values(), codes.n_rows())
    }
}

impl Active {
    /// Mean number of active features a row, in f64.
    fn mean(&self) -> Tensor {
        let count = |features: &Tensor| features.ne(0.0).sum(Kind::Int64).to_kind(Kind::Double);
        match self {
            Self::Features(features) => count(features) / features.size()[0] as f64,
            Self::Chosen(values, n_rows) => count(values) / *n_rows as f64,
            Self::Mean(l0) => l0.shallow_clone(),
        }
    }

    /// The same, read.
    pub(crate) fn read(&self) -> f64 {
        read::number(&self.mean())
    }
}

/// What a rule knows of its step beyond the loss.
#[derive(Debug, Default)]
pub(crate) struct Detail {
    /// k̂ of each row, as used.
    pub(crate) k_hat: Option<Tensor>,
    /// The k aimed at.
    pub(crate) k_target: Option<f64>,
    /// Temperature of the soft selection.
    pub(crate) alpha: Option<f64>,
    /// Whether the selection was hard.
    pub(crate) hard: Option<bool>,
    /// Rows without firing after which a feature counts as dead.
    pub(crate) dead_after_rows: Option<u64>,
}

impl Loss {
    /// The sum of its terms over dense features; a term that is absent is 0.
    pub(crate) fn new<const N: usize>(
        terms: [(&'static str, Option<Tensor>); N],
        features: Tensor,
        detail: Detail,
    ) -> Self {
        let fired = fired(&features);
        Self::of(terms, Active::Features(features), fired, detail)
    }

    /// The sum of its terms, where it is known which features fired.
    pub(super) fn of<const N: usize>(
        terms: [(&'static str, Option<Tensor>); N],
        features: Active,
        fired: Tensor,
        detail: Detail,
    ) -> Self {
        let present = |(name, term): (_, Option<Tensor>)| term.map(|term| (name, term));
        let parts: Vec<(&'static str, Tensor)> = terms.into_iter().filter_map(present).collect();
        let total = sum(parts.iter().map(|(_, part)| part.shallow_clone()));
        Self { facts: Facts { total, parts, features, detail }, fired, signal: None }
    }

    /// With the numbers that the rule learns from.
    pub(crate) fn with_signal(self, signal: Option<Tensor>) -> Self {
        Self { signal, ..self }
    }

    /// The part of a batch's loss that comes from a `share` of its rows, of which this is the loss.
    pub(crate) fn share_of(self, share: f64) -> Self {
        let Facts { total, parts, features, detail } = self.facts;
        let parts = parts.into_iter().map(|(name, part)| (name, part.detach() * share)).collect();
        let features = Active::Mean(features.mean() * share);
        Self { facts: Facts { total: total * share, parts, features, detail }, ..self }
    }

    /// The loss of two parts of a batch.
    pub(crate) fn plus(self, other: Self) -> Self {
        let (a, b) = (self.facts, other.facts);
        let parts = a.parts.into_iter().zip(b.parts);
        let facts = Facts {
            total: a.total.detach() + b.total.detach(),
            parts: parts.map(|((name, a), (_, b))| (name, a + b)).collect(),
            features: Active::Mean(a.features.mean() + b.features.mean()),
            detail: b.detail,
        };
        Self { facts, fired: self.fired.logical_or(&other.fired), signal: other.signal }
    }
}

impl Facts {
    /// Those of numbers that are known already.
    pub(crate) fn known(
        total: f64,
        parts: &[(&'static str, f64)],
        l0: f64,
        detail: Detail,
    ) -> Self {
        Self {
            total: Tensor::from(total),
            parts: parts.iter().map(|(name, part)| (*name, Tensor::from(*part))).collect(),
            features: Active::Mean(Tensor::from(l0)),
            detail,
        }
    }
}

/// Which features `[batch, n_features]`, that are not negative, are active in any row.
pub(super) fn fired(features: &Tensor) -> Tensor {
    tch::no_grad(|| features.detach().amax([0i64].as_slice(), false).le(0.0).logical_not())
}

/// The sum of scalars, 0 of none.
pub(super) fn sum(terms: impl Iterator<Item = Tensor>) -> Tensor {
    terms.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::from(0.0))
}

//! What a rule returns: the loss with its terms, the features, and what else it knows.

use tch::{Kind, Tensor};
use tch_autograd::read;

use super::Codes;

/// The loss of a batch, before its update.
pub(crate) struct Loss {
    /// What is differentiated.
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
    /// The sum of its terms; one that is absent is 0.
    pub(crate) fn new<const N: usize>(
        terms: [(&'static str, Option<Tensor>); N],
        features: Tensor,
        detail: Detail,
    ) -> Self {
        Self::of(terms, Active::Features(features), detail)
    }

    /// The same of a hard selection.
    pub(crate) fn of_codes<const N: usize>(
        terms: [(&'static str, Option<Tensor>); N],
        codes: &Codes,
        detail: Detail,
    ) -> Self {
        Self::of(terms, Active::Chosen(codes.values(), codes.n_rows()), detail)
    }

    fn of<const N: usize>(
        terms: [(&'static str, Option<Tensor>); N],
        features: Active,
        detail: Detail,
    ) -> Self {
        let present = |(name, term): (_, Option<Tensor>)| term.map(|term| (name, term));
        let parts: Vec<(&'static str, Tensor)> = terms.into_iter().filter_map(present).collect();
        let total = sum(parts.iter().map(|(_, part)| part.shallow_clone()));
        Self { total, parts, features, detail }
    }

    /// The part of a batch's loss that comes from a `share` of its rows, of which this is the loss.
    pub(crate) fn share_of(self, share: f64) -> Self {
        Self {
            total: self.total * share,
            parts: self
                .parts
                .into_iter()
                .map(|(name, part)| (name, part.detach() * share))
                .collect(),
            features: Active::Mean(self.features.mean() * share),
            detail: self.detail,
        }
    }

    /// The loss of two parts of a batch.
    pub(crate) fn plus(self, other: Self) -> Self {
        let parts = self.parts.into_iter().zip(other.parts);
        Self {
            total: self.total.detach() + other.total.detach(),
            parts: parts.map(|((name, a), (_, b))| (name, a + b)).collect(),
            features: Active::Mean(self.features.mean() + other.features.mean()),
            detail: other.detail,
        }
    }

    /// A loss whose numbers are known already.
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

/// The sum of scalars, 0 of none.
pub(super) fn sum(terms: impl Iterator<Item = Tensor>) -> Tensor {
    terms.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::from(0.0))
}

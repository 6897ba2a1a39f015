//! Which of the weights' two forms a function computes.

/// The weights, or their logarithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Weights,
    Logarithms,
}

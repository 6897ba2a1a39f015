//! What can be wrong with a call, said with the row and the value.

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A budget outside 0 < k < n, or not a number.
    #[error("k of row {row}: expected 0 < k < {n}, got {k}")]
    Budget {
        /// The first such row.
        row: usize,
        /// Its budget.
        k: f64,
        /// The number of entries in a row.
        n: usize,
    },
    /// A budget so small that weights or their last digits underflow in the precision of the call.
    #[error("k of row {row}: expected at least {least:e} for rows of this length, got {k:e}")]
    SmallBudget {
        /// The first such row.
        row: usize,
        /// Its budget.
        k: f64,
        /// The smallest budget: n times the smallest normal number over epsilon.
        least: f64,
    },
    /// A temperature that is not positive and normal, or so large that differences of entries that
    /// matter overflow, in the precision of the call.
    #[error("alpha: expected a number from {least:e} to {most:e}, got {alpha:e}")]
    Alpha {
        /// The temperature.
        alpha: f64,
        /// The smallest temperature.
        least: f64,
        /// The largest temperature.
        most: f64,
    },
    /// An input that is infinite or not a number.
    #[error("x of row {row}, entry {column}: expected a finite number, got {value}")]
    NotFinite {
        /// The first such row.
        row: usize,
        /// The first such entry of the row.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// Rows too short to choose from, or too long to index.
    #[error("row length: expected 2 to 2^32 - 1 entries, got {n}")]
    RowLength {
        /// The number of entries in a row.
        n: usize,
    },
    /// An argument whose shape does not fit that of x.
    #[error("shape of {argument}: expected {expected}, got {got}")]
    Shape {
        /// The name of the argument.
        argument: &'static str,
        /// What the shape of x asks for.
        expected: String,
        /// The shape it has.
        got: String,
    },
    /// A budget for a hard top-k outside 0 ≤ k ≤ n.
    #[error("k of row {row}: expected 0 <= k <= {n}, got {k}")]
    Count {
        /// The first such row.
        row: usize,
        /// Its budget.
        k: i64,
        /// The number of entries in a row.
        n: usize,
    },
    /// A tensor of a kind that the operator does not compute with.
    #[cfg(feature = "tch")]
    #[error("kind of {argument}: expected {expected}, got {got:?}")]
    Kind {
        /// The name of the argument.
        argument: &'static str,
        /// The kinds that will do.
        expected: &'static str,
        /// The kind it has.
        got: tch::Kind,
    },
    /// Tensors on different devices.
    #[cfg(feature = "tch")]
    #[error("device of {argument}: expected {expected:?} as for x, got {got:?}")]
    Device {
        /// The name of the argument.
        argument: &'static str,
        /// The device of x.
        expected: tch::Device,
        /// The device it is on.
        got: tch::Device,
    },
    /// A dimension that the tensor does not have.
    #[cfg(feature = "tch")]
    #[error("dim: expected -{rank} <= dim < {rank}, got {dim}")]
    Dimension {
        /// The dimension asked for.
        dim: i64,
        /// The number of dimensions of x.
        rank: usize,
    },
    /// What the autograd layer refused.
    #[cfg(feature = "tch")]
    #[error(transparent)]
    Autograd(#[from] tch_autograd::Error),
    /// What libtorch refused.
    #[cfg(feature = "tch")]
    #[error(transparent)]
    Torch(#[from] tch::TchError),
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

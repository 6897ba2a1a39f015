//! What can be wrong with the arguments of a kernel.

/// The result of a kernel that checks its arguments.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Arguments that do not fit together; the message names the argument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice or matrix has another size than the other arguments ask for.
    #[error("{name}: expected {expected} elements, got {got}")]
    Size {
        /// The argument.
        name: &'static str,
        /// What the other arguments ask for.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A matrix whose length is no multiple of its number of columns.
    #[error("{name}: expected rows of {n_cols} columns, got {len} elements")]
    Ragged {
        /// The argument.
        name: &'static str,
        /// The number of columns.
        n_cols: usize,
        /// The number of elements.
        len: usize,
    },
    /// An index or a count is beyond its bound.
    #[error("{name}: expected at most {bound}, got {got}")]
    Bound {
        /// The argument.
        name: &'static str,
        /// The largest value allowed.
        bound: usize,
        /// What came.
        got: usize,
    },
    /// Indices that have to ascend do not.
    #[error("{name}: expected ascending values, got a descent at position {position}")]
    Order {
        /// The argument.
        name: &'static str,
        /// Where the order breaks.
        position: usize,
    },
}

/// Fails unless a slice has the expected length.
pub(crate) fn check_len(name: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::Size { name, expected, got }) }
}

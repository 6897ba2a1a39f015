//! What can keep an evaluation from a result.

use sae_hosts::HookPoint;

/// The result of an evaluation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An evaluation that has no meaningful result; the message names what stands in its way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting out of its range.
    #[error("{name}: expected {expected}, got {got}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A tensor of another shape.
    #[error("{name}: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// The tensor.
        name: &'static str,
        /// The shape it should have.
        expected: Vec<i64>,
        /// The shape it has.
        got: Vec<i64>,
    },
    /// The SAE and what it is to read or to rebuild have different dimensions.
    #[error("d_model: expected {expected} as the sae has it, got {got} of {of}")]
    Dimension {
        /// Dimension of the SAE.
        expected: usize,
        /// The other.
        got: usize,
        /// Whose it is.
        of: &'static str,
    },
    /// The stores are not those of the model's ports, or it is asked for what its ports do not allow.
    #[error("the model and its stores: expected {expected}")]
    Ports {
        /// What is wanted.
        expected: &'static str,
    },
    /// A store is not the one that a planted truth tells of.
    #[error("{name} of the store: expected {expected} as the planted truth has, got {got}")]
    Truth {
        /// What differs.
        name: &'static str,
        /// Of the truth.
        expected: usize,
        /// Of the store.
        got: usize,
    },
    /// Nothing to evaluate.
    #[error("{what}: expected at least one, got none")]
    Empty {
        /// What there is none of.
        what: &'static str,
    },
    /// All rows are equal, so there is no variance to explain.
    #[error("activations: expected rows that differ, got {n_rows} equal ones")]
    NoVariance {
        /// Number of rows.
        n_rows: u64,
    },
    /// An input or a result is NaN or infinite.
    #[error("{name}, row {row}: expected finite values, got {got}")]
    NotFinite {
        /// The tensor.
        name: &'static str,
        /// The row, counted over all that was evaluated.
        row: u64,
        /// The norm or value that is not finite.
        got: f64,
    },
    /// Zeros at the hook point leave the host's loss as it is, so there is nothing to recover.
    #[error("hook point `{hook}`: expected another loss with zeros than {clean}, got {zero}")]
    NoEffect {
        /// The hook point.
        hook: HookPoint,
        /// Loss of the untouched host.
        clean: f64,
        /// Loss with zeros.
        zero: f64,
    },
    /// The mean activation at the hook point leaves every embedding of the host as it is, so there is
    /// nothing to recover.
    #[error(
        "hook point `{hook}`: expected other embeddings with the mean activation, got the same"
    )]
    SameEmbedding {
        /// The hook point.
        hook: HookPoint,
    },
    /// Codes could not be written to a temporary file, or not read again.
    #[error("a temporary file in {folder}: {source}", folder = folder.display())]
    Spool {
        /// Where the file is.
        folder: std::path::PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// The activations could not be read.
    #[error(transparent)]
    Data(#[from] sae_data::Error),
    /// The SAE could not be applied.
    #[error(transparent)]
    Model(#[from] sae_models::Error),
    /// The host could not be run.
    #[error(transparent)]
    Host(#[from] sae_hosts::Error),
    /// A tensor could not be seen as a slice, or a product not be computed.
    #[error(transparent)]
    Slice(#[from] tch_autograd::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(tch::TchError),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error)
    }
}

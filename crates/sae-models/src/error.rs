//! What can be wrong with a model, its tensors or its files.

use std::path::PathBuf;

/// The result of building, using, loading or saving a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A model, tensor or file that cannot be used; the message names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor the architecture needs is absent.
    #[error("tensor `{name}`: expected shape {expected:?}, got no such tensor")]
    MissingTensor {
        /// Its name.
        name: String,
        /// The shape it would have.
        expected: Vec<i64>,
    },
    /// A tensor the architecture does not know.
    #[error("tensor `{name}`: expected only the tensors of {architecture}, got this one")]
    UnexpectedTensor {
        /// Its name.
        name: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// A tensor of another shape.
    #[error("tensor `{name}`: expected shape {expected}, got {got:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape it should have.
        expected: String,
        /// The shape it has.
        got: Vec<i64>,
    },
    /// A tensor of another element kind.
    #[error("tensor `{name}`: expected kind {expected}, got {got:?}")]
    Kind {
        /// Its name.
        name: String,
        /// The kind it should have.
        expected: String,
        /// The kind it has.
        got: tch::Kind,
    },
    /// A tensor on another device.
    #[error("tensor `{name}`: expected device {expected:?}, got {got:?}")]
    Device {
        /// Its name.
        name: String,
        /// The device it should be on.
        expected: tch::Device,
        /// The device it is on.
        got: tch::Device,
    },
    /// A tensor with NaN or infinite elements.
    #[error("tensor `{name}`: expected finite values, got {count} that are not")]
    NotFinite {
        /// Its name.
        name: String,
        /// How many elements are not finite.
        count: i64,
    },
    /// The normalisation cannot be written into linear weights.
    #[error("normalization: expected none, scale or shift_scale to fold, got {got}")]
    NotFoldable {
        /// The normalisation.
        got: &'static str,
    },
    /// Features encoded without the row statistics that decoding needs.
    #[error("encoded.rows: expected the row statistics of {normalization}, got none")]
    MissingRows {
        /// The normalisation.
        normalization: &'static str,
    },
    /// A setting that does not fit the model.
    #[error(transparent)]
    Config(#[from] sae_config::Error),
    /// A file that could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// A file that is not what its name says.
    #[error("{path}: expected {expected}, got {got}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A tensor error found in a known file.
    #[error("{path}: {source}", path = path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        r#source: Box<Error>,
    },
    /// A kernel of sparse codes was given arguments that do not fit.
    #[error("sparse codes: {0}")]
    Kernel(sae_kernels::Error),
    /// A tensor that cannot be seen as a slice.
    #[error("sparse codes: {0}")]
    View(tch_autograd::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(tch::TchError),
}

impl Error {
    /// The same error, naming the file in which it was found.
    #[must_use]
    pub fn in_file(self, path: impl Into<PathBuf>) -> Self {
        match self {
            named @ (Self::Io { .. } | Self::Format { .. } | Self::InFile { .. }) => named,
            other => Self::InFile { path: path.into(), source: Box::new(other) },
        }
    }
}

impl From<sae_kernels::Error> for Error {
    fn from(error: sae_kernels::Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<tch_autograd::Error> for Error {
    fn from(error: tch_autograd::Error) -> Self {
        Self::View(error)
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error)
    }
}

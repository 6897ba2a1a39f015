//! What can go wrong in training.

use std::path::PathBuf;

/// The result of training.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A run that cannot start, go on or be resumed; the message says why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loss is NaN or infinite.
    #[error("step {step}: expected a finite loss, got {loss}")]
    LossNotFinite {
        /// The step, counted from 0.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A setting that does not fit the data or the rest.
    #[error(transparent)]
    Config(#[from] sae_config::Error),
    /// The model, or a file with tensors.
    #[error(transparent)]
    Model(#[from] sae_models::Error),
    /// The activations.
    #[error(transparent)]
    Data(#[from] sae_data::Error),
    /// A file or folder that could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// The activations are all the same, so there is nothing to scale by.
    #[error("{store}: expected rows that differ, got a mean squared norm of {got} to scale by", store = store.display())]
    NothingToScale {
        /// The store.
        store: PathBuf,
        /// The mean squared norm.
        got: f64,
    },
    /// The folder holds the training of another run.
    #[error("{path}: `{what}`: expected {expected}, got {got}", path = path.display())]
    OtherRun {
        /// The state that was to be resumed.
        path: PathBuf,
        /// What differs.
        what: String,
        /// What the configuration or the data say.
        expected: String,
        /// What the state was trained with.
        got: String,
    },
    /// The training in the folder has another length, and no state of it can be gone on from.
    #[error(
        "{path}: `training.steps`: expected {taken}, as trained, got {steps}: by step {step}, \
         `{because}` of that length has taken effect, and no earlier state is left. To go on from \
         its weights, train into another folder with `training.init`; to have a run that can be \
         made longer, set `training.decay_start` to `training.steps`",
        path = path.display()
    )]
    OtherLength {
        /// The folder or state.
        path: PathBuf,
        /// Steps of the run that was trained.
        taken: u64,
        /// Steps of the run asked for.
        steps: u64,
        /// Steps done.
        step: u64,
        /// The setting under which they differ.
        because: &'static str,
    },
    /// The activations come from several places.
    #[error("{store}: expected activations of one {what}, got {first} and {other}", store = store.display())]
    MixedStores {
        /// The store, or the first of them.
        store: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the first part says.
        first: String,
        /// What another part says.
        other: String,
    },
    /// The checkpoint of `training.init` does not fit the run.
    #[error("`training.init`: {path}: {what}: expected {expected}, got {got}", path = path.display())]
    Init {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the run asks for.
        expected: String,
        /// What the checkpoint has.
        got: String,
    },
    /// The folder already holds a training.
    #[error("{path}: expected no training here unless it is resumed, got one", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Training was asked to stop, and a checkpoint was written.
    #[error("interrupted after {step} of {steps} steps; resume goes on from there")]
    Interrupted {
        /// Steps done.
        step: u64,
        /// Steps of the run.
        steps: u64,
    },
    /// The soft selection was given values outside its domain.
    #[error("step {step}: {source}")]
    Selection {
        /// The step, counted from 0.
        step: u64,
        /// What the operator said.
        r#source: soft_topk::Error,
    },
    /// An operation wanted more memory than there is.
    #[error(
        "after {steps_done} steps: out of memory on {device}: {message}; less is needed with a \
         smaller {settings}. Checkpoints written before stand"
    )]
    OutOfMemory {
        /// Steps done.
        steps_done: u64,
        /// The device.
        device: String,
        /// What libtorch said.
        message: String,
        /// The settings to change.
        settings: &'static str,
    },
    /// The device computes no more.
    #[error(
        "after {steps_done} steps: {device} failed: {message}. Checkpoints written before stand, and \
         resume goes on from the newest"
    )]
    DeviceFailed {
        /// Steps done.
        steps_done: u64,
        /// The device.
        device: String,
        /// What libtorch said.
        message: String,
    },
    /// The thread that fills batches could not be started.
    #[error("thread for batches: {0}")]
    Thread(std::io::Error),
    /// A batch could not be brought to the device.
    #[error("batches to the device: {0}")]
    Upload(tch_autograd::Error),
    /// The device does not tell its memory.
    #[error("memory of {device}: {source}")]
    Memory {
        /// The device.
        device: String,
        /// What libtorch said.
        r#source: tch_autograd::Error,
    },
    /// A kernel of the fast engine was given arguments that do not fit.
    #[error("fast engine: {0}")]
    Kernel(sae_kernels::Error),
    /// A tensor of the fast engine is not a plain one of its own.
    #[error("fast engine: {0}")]
    View(tch_autograd::Error),
    /// libtorch refused an operation of the fast engine.
    #[error("fast engine: {0}")]
    Tch(tch::TchError),
    /// libtorch refused an operation.
    #[error("step {step}: libtorch: {source}")]
    Torch {
        /// The step, counted from 0.
        step: u64,
        /// What libtorch said.
        r#source: tch::TchError,
    },
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
        Self::Tch(error)
    }
}

//! What can go wrong here.

use tch::{Device, Kind, TchError};

/// What a [`Function`](crate::Function) may fail with: any error, and a plain text too.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of this crate, or of a function that it called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused an operation.
    #[error("{0}")]
    Torch(String),
    /// A tch call failed.
    #[error(transparent)]
    Tch(#[from] TchError),
    /// The forward of a function returned an error.
    #[error("the forward of {name} failed: {error}")]
    Forward {
        /// Name of the function.
        name: &'static str,
        /// Its own error.
        error: BoxError,
    },
    /// The forward of a function panicked.
    #[error("the forward of {name} panicked: {message}")]
    Panic {
        /// Name of the function.
        name: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// A function was given no input, or gave no output.
    #[error("{name} has no {what}: expected at least one")]
    Empty {
        /// Name of the function.
        name: &'static str,
        /// `input` or `output`.
        what: &'static str,
    },
    /// A tensor that must hold something is undefined.
    #[error("{what} {index} of {name} is undefined")]
    Undefined {
        /// Name of the function.
        name: &'static str,
        /// `input`, `output` or `saved tensor`.
        what: &'static str,
        /// Which of them.
        index: usize,
    },
    /// The mark of a non-differentiable output names no output.
    #[error("{name} marked output {index} as non-differentiable, but has {n_outputs} outputs")]
    NoSuchOutput {
        /// Name of the function.
        name: &'static str,
        /// The index that was marked.
        index: usize,
        /// How many outputs there are.
        n_outputs: usize,
    },
    /// A view of a tensor that is not on the CPU.
    #[error("a view needs a tensor on the cpu, got one on {got:?}")]
    Device {
        /// Where it is.
        got: Device,
    },
    /// A view of another element type than the tensor holds.
    #[error("a view needs a tensor of kind {expected:?}, got {got:?}")]
    Kind {
        /// The kind of the view.
        expected: Kind,
        /// The kind of the tensor.
        got: Kind,
    },
    /// A view of a tensor whose elements do not lie one after the other.
    #[error("a view needs a contiguous tensor, got shape {shape:?} with strides {strides:?}")]
    NotContiguous {
        /// Its shape.
        shape: Vec<i64>,
        /// Its strides.
        strides: Vec<i64>,
    },
    /// A view of a tensor whose memory does not say what it holds.
    #[error("a view needs a defined, dense tensor, neither lazily negated nor lazily zero")]
    NotPlain,
    /// A view of memory that is not aligned for its elements.
    #[error("a view of kind {kind:?} needs memory aligned to {align} bytes, got {address:#x}")]
    Misaligned {
        /// The kind of the view.
        kind: Kind,
        /// The alignment it needs.
        align: usize,
        /// The address of the memory.
        address: usize,
    },
    /// A mutable view of memory that other handles can reach.
    #[error("a mutable view needs the only handle of its memory, got one that is shared")]
    Shared,
    /// A product of matrices that do not go together.
    #[error("product: {0}")]
    Product(String),
    /// [`gradcheck`](crate::gradcheck) cannot check this.
    #[error("gradcheck: {0}")]
    Unchecked(String),
    /// [`gradcheck`](crate::gradcheck) found a wrong derivative.
    #[error(
        "the derivative of output {output}[{output_element}] with respect to \
         input {input}[{input_element}] is wrong: expected {expected:e}, got {got:e}"
    )]
    Gradient {
        /// Which output.
        output: usize,
        /// Which element of it, counted in C order.
        output_element: usize,
        /// Which input.
        input: usize,
        /// Which element of it, counted in C order.
        input_element: usize,
        /// By central differences.
        expected: f64,
        /// By backward.
        got: f64,
    },
}

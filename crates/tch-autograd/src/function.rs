//! The `Function` trait, what it is given, and `apply`.

use tch::Tensor;

use crate::bridge;
use crate::error::{BoxError, Error};

/// An operation on tensors with a derivative of its own.
///
/// The value is the operation's settings and state: [`apply`] consumes it, `forward` may change
/// it, and it lives as long as the graph node, on whatever thread drops that. Tensors that
/// `backward` needs go through [`ForwardContext::save_for_backward`] and not into the value: only
/// so is a later change in place noticed, memory freed after backward, and no cycle of ownership
/// made when an output is saved.
pub trait Function: Send + 'static {
    /// The name that error messages use.
    const NAME: &'static str;

    /// Computes the outputs. Nothing done here is recorded by autograd.
    ///
    /// Inputs must not be changed in place; that is checked.
    ///
    /// # Errors
    /// Whatever the operation finds wrong; [`apply`] returns it as [`Error::Forward`].
    fn forward(
        &mut self,
        ctx: &mut ForwardContext,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, BoxError>;

    /// Computes the gradient for each input from the gradient for each output.
    ///
    /// A gradient that is `None` is zero, both ways. There is one for each input, of its shape.
    /// Only one thread at a time runs this, not necessarily the one that ran `forward`. Nothing
    /// done here is recorded by autograd: differentiating the result again is an error.
    ///
    /// # Errors
    /// Whatever the operation finds wrong; the call of backward fails with its text.
    fn backward(
        &self,
        ctx: &BackwardContext,
        grad_outputs: &[Option<Tensor>],
    ) -> Result<Vec<Option<Tensor>>, BoxError>;
}

/// What [`Function::forward`] leaves for backward.
#[derive(Debug)]
pub struct ForwardContext {
    needs_input_grad: Vec<bool>,
    pub(crate) saved: Vec<Tensor>,
    pub(crate) non_differentiable: Vec<usize>,
}

impl ForwardContext {
    pub(crate) fn new(needs_input_grad: Vec<bool>) -> Self {
        Self { needs_input_grad, saved: Vec::new(), non_differentiable: Vec::new() }
    }

    /// Whether anything will ask for the gradient of an input: false for all of them in
    /// `no_grad`, and for an index past the last.
    pub fn needs_input_grad(&self, input: usize) -> bool {
        self.needs_input_grad.get(input).copied().unwrap_or(false)
    }

    /// Keeps tensors for backward, after those saved before: inputs, outputs, or others.
    pub fn save_for_backward(&mut self, tensors: &[&Tensor]) {
        self.saved.extend(tensors.iter().map(|tensor| tensor.shallow_clone()));
    }

    /// Says that an output, such as a list of indices, has no gradient. Outputs of integers have
    /// none anyway.
    pub fn mark_non_differentiable(&mut self, output: usize) {
        self.non_differentiable.push(output);
    }
}

/// What [`Function::backward`] finds of forward.
#[derive(Debug)]
pub struct BackwardContext {
    needs_input_grad: Vec<bool>,
    saved: Vec<Tensor>,
}

impl BackwardContext {
    pub(crate) fn new(needs_input_grad: Vec<bool>, saved: Vec<Tensor>) -> Self {
        Self { needs_input_grad, saved }
    }

    /// Whether this backward uses the gradient of an input; where not, `None` will do.
    pub fn needs_input_grad(&self, input: usize) -> bool {
        self.needs_input_grad.get(input).copied().unwrap_or(false)
    }

    /// The saved tensors, in the order in which they were saved.
    pub fn saved(&self) -> &[Tensor] {
        &self.saved
    }
}

/// Applies a function, and records it where an input requires a gradient.
///
/// # Errors
/// [`Error::Forward`] and [`Error::Panic`] if `forward` fails, [`Error::Empty`],
/// [`Error::Undefined`] and [`Error::NoSuchOutput`] for a missing or misnamed tensor,
/// [`Error::Torch`] for what libtorch refuses, such as an input changed in place.
pub fn apply<F: Function>(function: F, inputs: &[&Tensor]) -> Result<Vec<Tensor>, Error> {
    if inputs.is_empty() {
        return Err(Error::Empty { name: F::NAME, what: "input" });
    }
    if let Some(index) = inputs.iter().position(|input| !input.defined()) {
        return Err(Error::Undefined { name: F::NAME, what: "input", index });
    }
    bridge::apply(function, inputs)
}

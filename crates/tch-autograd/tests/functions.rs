//! Small differentiable functions that the other tests use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Kind, Tensor};
use tch_autograd::{BackwardContext, BoxError, ForwardContext, Function};

/// x³ in plain Rust, element by element, on `f64` CPU tensors.
pub(crate) struct Cube;

impl Function for Cube {
    const NAME: &'static str = "Cube";

    fn forward(
        &mut self,
        ctx: &mut ForwardContext,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, BoxError> {
        let x = inputs[0].contiguous();
        let cubes: Vec<f64> = tch_autograd::view::<f64>(&x)?.iter().map(|x| x * x * x).collect();
        ctx.save_for_backward(&[&inputs[0]]);
        Ok(vec![Tensor::from_slice(&cubes).reshape(inputs[0].size())])
    }

    fn backward(
        &self,
        ctx: &BackwardContext,
        grad_outputs: &[Option<Tensor>],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let Some(grad) = &grad_outputs[0] else { return Ok(vec![None]) };
        let (x, grad) = (ctx.saved()[0].contiguous(), grad.contiguous());
        // d(x³)/dx = 3x².
        let grads: Vec<f64> = tch_autograd::view::<f64>(&x)?
            .iter()
            .zip(tch_autograd::view::<f64>(&grad)?.iter())
            .map(|(x, g)| 3.0 * x * x * g)
            .collect();
        Ok(vec![Some(Tensor::from_slice(&grads).reshape(x.size()))])
    }
}

/// (a·b, a + b, index of the largest a·b): two inputs, three outputs, the last without gradient.
/// `mark` sends a float copy of the index as fourth output, marked non-differentiable.
pub(crate) struct ProductAndSum {
    pub(crate) mark: bool,
}

impl Function for ProductAndSum {
    const NAME: &'static str = "ProductAndSum";

    fn forward(
        &mut self,
        ctx: &mut ForwardContext,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, BoxError> {
        let (a, b) = (&inputs[0], &inputs[1]);
        ctx.save_for_backward(&[a]);
        ctx.save_for_backward(&[b]);
        let product = a * b;
        let index = product.argmax(None, false);
        let mut outputs = vec![product, a + b, index];
        if self.mark {
            outputs.push(outputs[2].to_kind(Kind::Double));
            ctx.mark_non_differentiable(3);
        }
        Ok(outputs)
    }

    fn backward(
        &self,
        ctx: &BackwardContext,
        grad_outputs: &[Option<Tensor>],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let [a, b] = ctx.saved() else { return Err("two tensors were saved".into()) };
        let grad = |other: &Tensor| match (&grad_outputs[0], &grad_outputs[1]) {
            (Some(product), Some(sum)) => Some(product * other + sum),
            (Some(product), None) => Some(product * other),
            (None, Some(sum)) => Some(sum.shallow_clone()),
            (None, None) => None,
        };
        let wanted = |i: usize, other: &Tensor| ctx.needs_input_grad(i).then(|| grad(other));
        Ok(vec![wanted(0, b).flatten(), wanted(1, a).flatten()])
    }
}

/// The identity, counting its drops.
pub(crate) struct Counted {
    pub(crate) drops: Arc<AtomicUsize>,
    pub(crate) save_output: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

impl Function for Counted {
    const NAME: &'static str = "Counted";

    fn forward(
        &mut self,
        ctx: &mut ForwardContext,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, BoxError> {
        let output = inputs[0].copy();
        if self.save_output {
            ctx.save_for_backward(&[&output]);
        }
        Ok(vec![output])
    }

    fn backward(
        &self,
        _: &BackwardContext,
        grad_outputs: &[Option<Tensor>],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        Ok(vec![grad_outputs[0].as_ref().map(Tensor::shallow_clone)])
    }
}

type Forward = dyn Fn(&mut ForwardContext, &[Tensor]) -> Result<Vec<Tensor>, BoxError> + Send;
type Backward =
    dyn Fn(&BackwardContext, &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>, BoxError> + Send;

/// A function made of two closures.
pub(crate) struct Custom {
    pub(crate) forward: Box<Forward>,
    pub(crate) backward: Box<Backward>,
}

impl Function for Custom {
    const NAME: &'static str = "Custom";

    fn forward(
        &mut self,
        ctx: &mut ForwardContext,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, BoxError> {
        (self.forward)(ctx, inputs)
    }

    fn backward(
        &self,
        ctx: &BackwardContext,
        grad_outputs: &[Option<Tensor>],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        (self.backward)(ctx, grad_outputs)
    }
}

/// A leaf of `f64` that requires a gradient.
pub(crate) fn leaf(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tch_autograd::view::<f64>(&tensor.detach().contiguous()).expect("an f64 tensor").to_vec()
}

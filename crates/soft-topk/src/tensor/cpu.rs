//! The operator on CPU tensors: the engine over their memory.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};
use tch_autograd::{BackwardContext, BoxError, Element, ForwardContext, Function, view, view_mut};

use crate::dense::Saved;
use crate::engine::{Entry, Real};

/// Weights of rows x `[rows, n]`, given k `[rows]` and alpha of one entry in the precision of the
/// computation.
#[derive(Debug, Default)]
pub(crate) struct Cpu {
    single: Saved<f32>,
    double: Saved<f64>,
}

impl Function for Cpu {
    const NAME: &'static str = "SoftTopK";

    fn forward(
        &mut self,
        ctx: &mut ForwardContext,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, BoxError> {
        let x = &inputs[0];
        let weights = match x.kind() {
            Kind::Double => forward::<f64>(&mut self.double, inputs)?,
            Kind::BFloat16 => forward::<bf16>(&mut self.single, inputs)?,
            Kind::Half => forward::<f16>(&mut self.single, inputs)?,
            _ => forward::<f32>(&mut self.single, inputs)?,
        };
        ctx.save_for_backward(&[x]);
        Ok(vec![weights])
    }

    fn backward(
        &self,
        ctx: &BackwardContext,
        grad_outputs: &[Option<Tensor>],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let Some(v) = &grad_outputs[0] else {
            return Ok(vec![None, None, None]);
        };
        let x = &ctx.saved()[0];
        let v = v.f_contiguous()?;
        let alpha = ctx.needs_input_grad(2);
        match x.kind() {
            Kind::Double => backward::<f64>(&self.double, x, &v, alpha),
            Kind::BFloat16 => backward::<bf16>(&self.single, x, &v, alpha),
            Kind::Half => backward::<f16>(&self.single, x, &v, alpha),
            _ => backward::<f32>(&self.single, x, &v, alpha),
        }
    }
}

fn forward<E>(saved: &mut Saved<E::Real>, inputs: &[Tensor]) -> Result<Tensor, BoxError>
where
    E: Entry + Element,
    E::Real: Element,
{
    let (x, k, alpha) = (&inputs[0], &inputs[1], &inputs[2]);
    let shape = x.size();
    let n = shape[1] as usize;
    let alpha = E::Real::from_f64(alpha.f_double_value(&[])?);
    let mut weights = Tensor::f_empty(&shape, (E::Real::KIND, Device::Cpu))?;
    saved.forward(view::<E>(x)?, n, view(k)?, alpha, view_mut(&mut weights)?)?;
    Ok(weights)
}

fn backward<E>(
    saved: &Saved<E::Real>,
    x: &Tensor,
    v: &Tensor,
    want_alpha: bool,
) -> Result<Vec<Option<Tensor>>, BoxError>
where
    E: Entry + Element,
    E::Real: Element,
{
    let options = (E::Real::KIND, Device::Cpu);
    let shape = x.size();
    let mut grad_x = Tensor::f_empty(&shape, options)?;
    let mut grad_k = Tensor::f_empty([shape[0]], options)?;
    let (grads, ks) = (view_mut(&mut grad_x)?, view_mut(&mut grad_k)?);
    let alpha = saved.backward(view::<E>(x)?, view(v)?, grads, ks, want_alpha)?;
    let grad_alpha = Tensor::from(alpha).f_to_kind(E::Real::KIND)?;
    Ok(vec![Some(grad_x.f_to_kind(x.kind())?), Some(grad_k), want_alpha.then_some(grad_alpha)])
}

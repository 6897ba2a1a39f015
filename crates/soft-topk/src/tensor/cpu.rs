//! The operator on CPU tensors: the engine over their memory.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};
use tch_autograd::{BackwardContext, BoxError, Element, ForwardContext, Function, view, view_mut};

use super::form::Form;
use crate::dense::Saved;
use crate::engine::{Entry, Real};
use crate::log::SavedLog;

/// Weights, or their logarithms, of rows x `[rows, n]`, given k `[rows]` and alpha of one entry in the precision of the
/// computation.
#[derive(Debug)]
pub(crate) struct Cpu {
    form: Form,
    single: State<f32>,
    double: State<f64>,
}

#[derive(Debug, Default)]
struct State<T> {
    weights: Saved<T>,
    logarithms: SavedLog<T>,
}

impl Cpu {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, single: State::default(), double: State::default() }
    }
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
            Kind::Double => forward::<f64>(&mut self.double, self.form, inputs)?,
            Kind::BFloat16 => forward::<bf16>(&mut self.single, self.form, inputs)?,
            Kind::Half => forward::<f16>(&mut self.single, self.form, inputs)?,
            _ => forward::<f32>(&mut self.single, self.form, inputs)?,
        };
        match self.form {
            Form::Weights => ctx.save_for_backward(&[x, &weights]),
            Form::Logarithms => ctx.save_for_backward(&[x]),
        }
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
        let saved = ctx.saved();
        let v = v.f_contiguous()?;
        let alpha = ctx.needs_input_grad(2);
        match saved[0].kind() {
            Kind::Double => backward::<f64>(&self.double, self.form, saved, &v, alpha),
            Kind::BFloat16 => backward::<bf16>(&self.single, self.form, saved, &v, alpha),
            Kind::Half => backward::<f16>(&self.single, self.form, saved, &v, alpha),
            _ => backward::<f32>(&self.single, self.form, saved, &v, alpha),
        }
    }
}

fn forward<E>(state: &mut State<E::Real>, form: Form, inputs: &[Tensor]) -> Result<Tensor, BoxError>
where
    E: Entry + Element,
    E::Real: Element,
{
    let (x, k, alpha) = (&inputs[0], &inputs[1], &inputs[2]);
    let shape = x.size();
    let n = shape[1] as usize;
    let alpha = E::Real::from_f64(alpha.f_double_value(&[])?);
    let mut weights = Tensor::f_empty(&shape, (E::Real::KIND, Device::Cpu))?;
    let (x, k, out) = (&view::<E>(x)?, &view(k)?, view_mut(&mut weights)?);
    match form {
        Form::Weights => state.weights.forward(x, n, k, alpha, out)?,
        Form::Logarithms => state.logarithms.forward(x, n, k, alpha, out)?,
    }
    Ok(weights)
}

fn backward<E>(
    state: &State<E::Real>,
    form: Form,
    saved: &[Tensor],
    v: &Tensor,
    want_alpha: bool,
) -> Result<Vec<Option<Tensor>>, BoxError>
where
    E: Entry + Element,
    E::Real: Element,
{
    let options = (E::Real::KIND, Device::Cpu);
    let x = &saved[0];
    let shape = x.size();
    let mut grad_x = Tensor::f_empty(&shape, options)?;
    let mut grad_k = Tensor::f_empty([shape[0]], options)?;
    let (grads, ks) = (view_mut(&mut grad_x)?, view_mut(&mut grad_k)?);
    let (entries, v) = (&view::<E>(x)?, &view(v)?);
    let alpha = match form {
        Form::Weights => {
            let weights = &view(&saved[1])?;
            state.weights.backward(entries, weights, v, grads, ks, want_alpha)?
        }
        Form::Logarithms => state.logarithms.backward(entries, v, grads, ks)?,
    };
    let grad_alpha = Tensor::from(alpha).f_to_kind(E::Real::KIND)?;
    Ok(vec![Some(grad_x.f_to_kind(x.kind())?), Some(grad_k), want_alpha.then_some(grad_alpha)])
}

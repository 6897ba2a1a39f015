//! Derivatives by backward against central differences.

use tch::{Kind, Tensor, no_grad};

use crate::error::{BoxError, Error};
use crate::view::{view, view_mut};

/// Step and tolerances of [`gradcheck`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradcheckOptions {
    /// Half the distance of the two points of a central difference.
    pub eps: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// Tolerance relative to the central difference.
    pub rtol: f64,
}

impl Default for GradcheckOptions {
    fn default() -> Self {
        Self { eps: 1e-6, atol: 1e-5, rtol: 1e-3 }
    }
}

/// Compares every derivative of every differentiable output of `f` with central differences.
///
/// Inputs that require a gradient are checked, all elements of them; they must be `f64` on the
/// CPU. The other inputs are passed on as they are. `f` must be smooth around the inputs, within
/// `eps`, and give the same for the same.
///
/// A derivative g passes if |g − n| ≤ atol + rtol·|n| for the central difference
/// n = (f(x + eps) − f(x − eps))/(2·eps).
///
/// # Errors
/// [`Error::Gradient`] names the first derivative that is wrong; [`Error::Unchecked`] says why
/// nothing could be checked; errors of `f` and of backward come as they are.
pub fn gradcheck<E: Into<BoxError>>(
    f: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, E>,
    inputs: &[Tensor],
    options: GradcheckOptions,
) -> Result<(), Error> {
    let call = |inputs: &[Tensor]| {
        f(inputs)
            .map_err(|error| Error::Forward { name: "the checked function", error: error.into() })
    };
    let inputs = own_copies(inputs)?;
    let outputs = call(&inputs)?;
    let differentiable: Vec<usize> =
        (0..outputs.len()).filter(|&o| outputs[o].requires_grad()).collect();
    if differentiable.is_empty() {
        return Err(Error::Unchecked("no output requires a gradient".to_owned()));
    }
    for &o in &differentiable {
        if outputs[o].kind() != Kind::Double {
            let kind = outputs[o].kind();
            return Err(Error::Unchecked(format!(
                "output {o}: expected kind Double, got {kind:?}"
            )));
        }
    }
    let checked: Vec<usize> = (0..inputs.len()).filter(|&i| inputs[i].requires_grad()).collect();
    // expected[i][e][o]: derivative of output o by element e of the i-th checked input.
    let expected = central_differences(&call, &inputs, &checked, &differentiable, options.eps)?;

    let wrt: Vec<&Tensor> = checked.iter().map(|&i| &inputs[i]).collect();
    for (o, &output) in differentiable.iter().enumerate() {
        let flat = outputs[output].flatten(0, -1);
        for output_element in 0..flat.numel() {
            let element = flat.select(0, output_element as i64);
            let grads = Tensor::f_run_backward(&[element], &wrt, true, false)?;
            for (i, (grad, &input)) in grads.iter().zip(&checked).enumerate() {
                let got =
                    if grad.defined() { values(grad)? } else { vec![0.0; inputs[input].numel()] };
                for (input_element, &got) in got.iter().enumerate() {
                    let expected = expected[i][input_element][o][output_element];
                    let tolerance = options.atol + options.rtol * expected.abs();
                    // A NaN on either side is not close, an infinity neither.
                    let close = expected.is_finite() && (got - expected).abs() <= tolerance;
                    if !close {
                        return Err(Error::Gradient {
                            output,
                            output_element,
                            input,
                            input_element,
                            expected,
                            got,
                        });
                    }
                }
            }
        }
    }
    Ok(())
}

/// Copies that share nothing with the caller, leaves where a gradient is required.
fn own_copies(inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let mut copies = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let requires_grad = input.requires_grad();
        if requires_grad && input.kind() != Kind::Double {
            let kind = input.kind();
            return Err(Error::Unchecked(format!("input {i}: expected kind Double, got {kind:?}")));
        }
        let copy = no_grad(|| input.detach().contiguous().copy());
        copies.push(copy.set_requires_grad(requires_grad));
    }
    if !copies.iter().any(Tensor::requires_grad) {
        return Err(Error::Unchecked("no input requires a gradient".to_owned()));
    }
    Ok(copies)
}

type Call<'a> = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, Error> + 'a;

fn central_differences(
    call: &Call<'_>,
    inputs: &[Tensor],
    checked: &[usize],
    differentiable: &[usize],
    eps: f64,
) -> Result<Vec<Vec<Vec<Vec<f64>>>>, Error> {
    let mut all = Vec::new();
    for &input in checked {
        let mut of_input = Vec::new();
        for element in 0..inputs[input].numel() {
            let at = |step: f64| -> Result<Vec<Vec<f64>>, Error> {
                let moved = moved_inputs(inputs, input, element, step)?;
                let outputs = no_grad(|| call(&moved))?;
                differentiable.iter().map(|&o| values(&outputs[o])).collect()
            };
            let (above, below) = (at(eps)?, at(-eps)?);
            let slope = |(a, b): (&f64, &f64)| (a - b) / (2.0 * eps);
            of_input.push(
                above
                    .iter()
                    .zip(&below)
                    .map(|(a, b)| a.iter().zip(b).map(slope).collect())
                    .collect(),
            );
        }
        all.push(of_input);
    }
    Ok(all)
}

fn moved_inputs(
    inputs: &[Tensor],
    moved: usize,
    element: usize,
    step: f64,
) -> Result<Vec<Tensor>, Error> {
    let mut result: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
    let mut copy = result[moved].copy();
    view_mut::<f64>(&mut copy)?[element] += step;
    result[moved] = copy;
    Ok(result)
}

fn values(tensor: &Tensor) -> Result<Vec<f64>, Error> {
    Ok(view::<f64>(&tensor.detach().contiguous())?.to_vec())
}

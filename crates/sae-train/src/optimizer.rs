//! Adam over named tensors, with what each training rule asks of the decoder.

use tch::{Kind, Tensor};

/// Added to norms where the published code does so.
pub(crate) const PROJECTION_EPSILON: f64 = 1e-6;
/// Added to the root of the second moment.
pub(crate) const EPSILON: f64 = 1e-8;

/// What is kept true of the rows of the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// Unit norm: the gradient loses its component along each row, rows are normalised after the
    /// step.
    UnitNorm,
    /// Nothing.
    Free,
}

/// How a training rule is optimised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptimizerRule {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    /// Whether the global norm of the gradient is clipped to 1.
    pub(crate) clips: bool,
    pub(crate) decoder: Decoder,
}

impl OptimizerRule {
    /// Projection, clipping, Adam, unit norm.
    pub(crate) const CLIPPED: Self =
        Self { beta1: 0.9, beta2: 0.999, clips: true, decoder: Decoder::UnitNorm };
    /// Projection, Adam, unit norm.
    pub(crate) const CONSTRAINED: Self = Self { clips: false, ..Self::CLIPPED };

    /// What is added to a norm before dividing the gradient's projection, and the row, by it.
    fn norm_epsilons(self) -> (f64, f64) {
        if self.clips { (PROJECTION_EPSILON, f64::from(f32::EPSILON)) } else { (0.0, 0.0) }
    }
}

/// A trained tensor with Adam's moments.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) value: Tensor,
    pub(crate) mean: Tensor,
    pub(crate) square: Tensor,
    /// Updates so far: a tensor without a gradient is not updated.
    pub(crate) updates: u64,
    /// Factor of the learning rate.
    pub(crate) lr_factor: f64,
}

impl Parameter {
    pub(crate) fn new(name: &'static str, value: &Tensor) -> Self {
        let value = value.shallow_clone().set_requires_grad(true);
        let zeros = || value.detach().zeros_like();
        Self { name, mean: zeros(), square: zeros(), updates: 0, lr_factor: 1.0, value }
    }
}

/// One update of all parameters from their gradients; a gradient that is undefined leaves its
/// parameter as it is.
pub(crate) fn update(
    rule: OptimizerRule,
    parameters: &mut [Parameter],
    mut gradients: Vec<Tensor>,
    lr: f64,
) {
    let _guard = tch::no_grad_guard();
    let (projection_epsilon, norm_epsilon) = rule.norm_epsilons();
    if rule.decoder == Decoder::UnitNorm {
        for (parameter, gradient) in parameters.iter().zip(&mut gradients) {
            if parameter.name == "decoder.weight" && gradient.defined() {
                project(gradient, &parameter.value, projection_epsilon);
            }
        }
    }
    if rule.clips {
        clip(&mut gradients);
    }
    for (parameter, gradient) in parameters.iter_mut().zip(&gradients) {
        if gradient.defined() {
            adam(rule, parameter, gradient, lr);
        }
        if rule.decoder == Decoder::UnitNorm && parameter.name == "decoder.weight" {
            let _ = parameter.value.g_div_(&(row_norms(&parameter.value) + norm_epsilon));
        }
    }
}

/// g ← g − (g·u)u with u = w/(‖w‖ + ε), row by row.
fn project(gradient: &mut Tensor, w: &Tensor, epsilon: f64) {
    let unit = w / (row_norms(w) + epsilon);
    let along = (&*gradient * &unit).sum_dim_intlist([1i64].as_slice(), true, None);
    *gradient = &*gradient - unit * along;
}

/// Scales all gradients so that their common norm is at most 1.
fn clip(gradients: &mut [Tensor]) {
    let mut total: Option<Tensor> = None;
    for gradient in gradients.iter().filter(|g| g.defined()) {
        let square = gradient.square().sum(gradient.kind());
        total = Some(total.map_or_else(|| square.shallow_clone(), |sum| sum + &square));
    }
    if let Some(total) = total {
        let factor = (total.sqrt() + PROJECTION_EPSILON).reciprocal().clamp_max(1.0);
        for gradient in gradients.iter_mut().filter(|g| g.defined()) {
            *gradient = &*gradient * &factor;
        }
    }
}

/// Adam (Kingma and Ba 2014) with bias correction, ε added after the root.
fn adam(rule: OptimizerRule, parameter: &mut Parameter, gradient: &Tensor, lr: f64) {
    parameter.updates += 1;
    let updates = parameter.updates as f64;
    let _ = parameter.mean.lerp_(gradient, 1.0 - rule.beta1);
    parameter.square *= rule.beta2;
    parameter.square += gradient.square() * (1.0 - rule.beta2);
    let root = (1.0 - rule.beta2.powf(updates)).sqrt();
    let denominator = parameter.square.sqrt() / root + EPSILON;
    let step = lr * parameter.lr_factor / (1.0 - rule.beta1.powf(updates));
    let _ = parameter.value.g_sub_(&((&parameter.mean / denominator) * step));
}

/// Norms of rows, `[n, 1]`; of a row of zeros the least positive number.
fn row_norms(w: &Tensor) -> Tensor {
    let least =
        if w.kind() == Kind::Double { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) };
    w.norm_scalaropt_dim(2.0, [1i64].as_slice(), true).clamp_min(least)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::{Decoder, OptimizerRule, Parameter, row_norms, update};

    fn parameter(name: &'static str, values: &[f64], shape: &[i64]) -> Parameter {
        Parameter::new(name, &Tensor::from_slice(values).reshape(shape))
    }

    #[test]
    fn a_zero_learning_rate_changes_nothing_but_norms() {
        let mut all = [
            parameter("encoder.bias", &[1.0, 2.0], &[2]),
            parameter("decoder.weight", &[3.0, 4.0], &[1, 2]),
        ];
        let gradients = all.iter().map(|p| p.value.detach().ones_like()).collect();
        update(OptimizerRule::CONSTRAINED, &mut all, gradients, 0.0);
        assert_eq!(all[0].value, Tensor::from_slice(&[1.0, 2.0]));
        assert_eq!(all[1].value, Tensor::from_slice(&[0.6, 0.8]).reshape([1, 2]));
    }

    #[test]
    fn a_tensor_without_a_gradient_keeps_its_value_and_moments() {
        let mut all =
            [parameter("encoder.bias", &[1.0], &[1]), parameter("decoder.bias", &[1.0], &[1])];
        update(
            OptimizerRule::CLIPPED,
            &mut all,
            vec![Tensor::from_slice(&[1.0]), Tensor::new()],
            0.1,
        );
        assert!(all[0].value.double_value(&[0]) < 1.0);
        assert_eq!((all[1].value.double_value(&[0]), all[1].updates), (1.0, 0));
    }

    #[test]
    fn the_first_step_of_adam_has_the_length_of_the_learning_rate() {
        let mut all = [parameter("encoder.bias", &[0.0, 0.0], &[2])];
        let rule = OptimizerRule { decoder: Decoder::Free, ..OptimizerRule::CLIPPED };
        update(rule, &mut all, vec![Tensor::from_slice(&[30.0, -40.0])], 0.25);
        let moved = (&all[0].value - Tensor::from_slice(&[-0.25, 0.25])).abs().max();
        assert!(moved.double_value(&[]) < 1e-7);
    }

    #[test]
    fn rows_of_the_decoder_stay_on_the_sphere_and_leave_along_it() {
        let w = Tensor::randn([5, 4], (Kind::Double, Device::Cpu));
        let mut all = [Parameter::new("decoder.weight", &(&w / row_norms(&w)))];
        let before = all[0].value.copy();
        // The gradient points along each row: nothing is left of it.
        let gradient = before.detach() * 7.0;
        update(OptimizerRule::CONSTRAINED, &mut all, vec![gradient], 0.1);
        assert!((row_norms(&all[0].value) - 1.0).abs().max().double_value(&[]) < 1e-12);
        assert!(all[0].mean.abs().max().double_value(&[]) < 1e-15);
    }
}

//! Adam over a model's parameters, with what each training rule asks of the decoder.

use sae_models::Role;
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

/// What Adam keeps of a parameter.
#[derive(Debug)]
pub(crate) struct AdamState {
    pub(crate) role: Role,
    /// Moving averages of the gradient and of its square.
    pub(crate) mean: Tensor,
    pub(crate) square: Tensor,
    /// Updates so far: a tensor without a gradient is not updated.
    pub(crate) updates: u64,
    /// Factor of the learning rate.
    pub(crate) lr_factor: f64,
}

impl AdamState {
    pub(crate) fn new(role: Role, value: &Tensor) -> Self {
        let zeros = || value.detach().zeros_like();
        Self { role, mean: zeros(), square: zeros(), updates: 0, lr_factor: 1.0 }
    }
}

/// One update of all parameters from their gradients; a gradient that is undefined leaves its
/// parameter as it is. All lists are in the order of the parameters.
pub(crate) fn update<'a>(
    rule: OptimizerRule,
    parameters: impl Iterator<Item = (Role, &'a mut Tensor)>,
    adam: &mut [AdamState],
    mut gradients: Vec<Tensor>,
    lr: f64,
) {
    let _guard = tch::no_grad_guard();
    let (projection_epsilon, norm_epsilon) = rule.norm_epsilons();
    let is_kept = |role: Role| rule.decoder == Decoder::UnitNorm && role == Role::DecoderWeight;
    let mut parameters: Vec<(Role, &mut Tensor)> = parameters.collect();
    for ((role, value), gradient) in parameters.iter().zip(&mut gradients) {
        if is_kept(*role) && gradient.defined() {
            project(gradient, value, projection_epsilon);
        }
    }
    if rule.clips {
        clip(&mut gradients);
    }
    for (((role, value), state), gradient) in parameters.iter_mut().zip(adam).zip(&gradients) {
        if gradient.defined() {
            adam_step(rule, state, value, gradient, lr);
        }
        if is_kept(*role) {
            let _ = value.g_div_(&(row_norms(value) + norm_epsilon));
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
fn adam_step(
    rule: OptimizerRule,
    state: &mut AdamState,
    value: &mut Tensor,
    gradient: &Tensor,
    lr: f64,
) {
    state.updates += 1;
    let updates = state.updates as f64;
    let _ = state.mean.lerp_(gradient, 1.0 - rule.beta1);
    state.square *= rule.beta2;
    state.square += gradient.square() * (1.0 - rule.beta2);
    let root = (1.0 - rule.beta2.powf(updates)).sqrt();
    let denominator = state.square.sqrt() / root + EPSILON;
    let step = lr * state.lr_factor / (1.0 - rule.beta1.powf(updates));
    let _ = value.g_sub_(&((&state.mean / denominator) * step));
}

/// Norms of rows, `[n, 1]`; of a row of zeros the least positive number.
fn row_norms(w: &Tensor) -> Tensor {
    let least =
        if w.kind() == Kind::Double { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) };
    w.norm_scalaropt_dim(2.0, [1i64].as_slice(), true).clamp_min(least)
}

#[cfg(test)]
mod tests {
    use sae_models::Role;
    use tch::{Device, Kind, Tensor};

    use super::{AdamState, Decoder, OptimizerRule, row_norms, update};

    fn tensor(values: &[f64], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values).reshape(shape)
    }

    /// The first update of these parameters, and what Adam keeps of them.
    fn first<const N: usize>(
        rule: OptimizerRule,
        all: &mut [(Role, Tensor); N],
        gradients: [Tensor; N],
        lr: f64,
    ) -> Vec<AdamState> {
        let mut adam: Vec<_> = all.iter().map(|(role, t)| AdamState::new(*role, t)).collect();
        let parameters = all.iter_mut().map(|(role, t)| (*role, t));
        update(rule, parameters, &mut adam, gradients.into(), lr);
        adam
    }

    #[test]
    fn a_zero_learning_rate_changes_nothing_but_norms() {
        let mut all = [
            (Role::EncoderBias, tensor(&[1.0, 2.0], &[2])),
            (Role::DecoderWeight, tensor(&[3.0, 4.0], &[1, 2])),
        ];
        let gradients = [all[0].1.ones_like(), all[1].1.ones_like()];
        first(OptimizerRule::CONSTRAINED, &mut all, gradients, 0.0);
        assert_eq!(all[0].1, Tensor::from_slice(&[1.0, 2.0]));
        assert_eq!(all[1].1, Tensor::from_slice(&[0.6, 0.8]).reshape([1, 2]));
    }

    #[test]
    fn a_tensor_without_a_gradient_keeps_its_value_and_moments() {
        let mut all =
            [(Role::EncoderBias, tensor(&[1.0], &[1])), (Role::DecoderBias, tensor(&[1.0], &[1]))];
        let gradients = [tensor(&[1.0], &[1]), Tensor::new()];
        let adam = first(OptimizerRule::CLIPPED, &mut all, gradients, 0.1);
        assert!(all[0].1.double_value(&[0]) < 1.0);
        assert_eq!((all[1].1.double_value(&[0]), adam[1].updates), (1.0, 0));
    }

    #[test]
    fn the_first_step_of_adam_has_the_length_of_the_learning_rate() {
        let mut all = [(Role::EncoderBias, tensor(&[0.0, 0.0], &[2]))];
        let rule = OptimizerRule { decoder: Decoder::Free, ..OptimizerRule::CLIPPED };
        first(rule, &mut all, [tensor(&[30.0, -40.0], &[2])], 0.25);
        let moved = (&all[0].1 - Tensor::from_slice(&[-0.25, 0.25])).abs().max();
        assert!(moved.double_value(&[]) < 1e-7);
    }

    #[test]
    fn rows_of_the_decoder_stay_on_the_sphere_and_leave_along_it() {
        let w = Tensor::randn([5, 4], (Kind::Double, Device::Cpu));
        let mut all = [(Role::DecoderWeight, &w / row_norms(&w))];
        // The gradient points along each row: nothing is left of it.
        let gradient = all[0].1.copy() * 7.0;
        let adam = first(OptimizerRule::CONSTRAINED, &mut all, [gradient], 0.1);
        assert!((row_norms(&all[0].1) - 1.0).abs().max().double_value(&[]) < 1e-12);
        assert!(adam[0].mean.abs().max().double_value(&[]) < 1e-15);
    }
}

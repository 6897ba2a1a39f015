//! SoftSAE: soft top-k with a learned k̂ for each row, at last the hard selection of inference.

use sae_config::{CheckedTraining, Parity, SelectionGradient, SoftRecipe};
use sae_models::{Codes, Estimator, Largest, ModelConfig, Parameters, Role, Sae, Selection};
use serde_json::Value;
use soft_topk::tensor::soft_topk_or_nan;
use tch::{Kind, Tensor};

use super::loss::fired;
use super::prefixes::{Decode, Prefixes};
use super::{Active, BudgetLoss, Context, Detail, Loss, Pair, Rule, Taken};
use crate::dead::mean_square;
use crate::optimizer::OptimizerRule;
use crate::schedule::Anneal;
use crate::{Error, Result};

/// ‖x − x̂‖² + λ_k·budget(mean k̂ − k) + auxk; the budget term is absent from the hard phase.
pub(crate) struct SoftRule {
    recipe: SoftRecipe,
    estimator: Estimator,
    prefixes: Prefixes,
    budget: BudgetLoss,
    official: bool,
    schedule: SoftSchedule,
}

/// What changes from step to step: target k, α, and at last the hard selection.
pub(crate) struct SoftSchedule {
    /// The first step with the hard selection.
    hard_from: u64,
    k: Anneal,
    alpha: Anneal,
}

/// How the k̂ of a SoftSAE is estimated.
///
/// # Panics
/// If the model is no SoftSAE.
pub(crate) fn estimator(sae: &Sae) -> Estimator {
    match sae.selection() {
        Selection::Estimated(estimator) => estimator,
        other => panic!("expected a model of SoftSAE, got {other:?}"),
    }
}

impl SoftSchedule {
    pub(crate) fn new(recipe: &SoftRecipe, model: &ModelConfig) -> Self {
        Self {
            hard_from: recipe.hard_from,
            k: Anneal::of_k(&recipe.k, model),
            alpha: Anneal {
                first: recipe.alpha_first,
                start: recipe.alpha_start,
                end: recipe.alpha,
                steps: recipe.alpha_anneal_steps,
            },
        }
    }

    pub(crate) fn k(&self, step: u64) -> f64 {
        self.k.at(step).trunc()
    }

    pub(crate) fn alpha(&self, step: u64) -> f64 {
        self.alpha.at(step)
    }

    pub(crate) fn is_hard(&self, step: u64) -> bool {
        step >= self.hard_from
    }

    /// What is known of a step that used this k̂.
    pub(crate) fn detail(&self, recipe: &SoftRecipe, step: u64, k_hat: Tensor) -> Detail {
        Detail {
            k_hat: Some(k_hat),
            k_target: Some(self.k(step)),
            alpha: Some(self.alpha(step)),
            hard: Some(self.is_hard(step)),
            dead_after_rows: Some(recipe.auxk.dead_after_rows),
        }
    }
}

impl SoftRule {
    pub(crate) fn new(recipe: &SoftRecipe, training: &CheckedTraining, sae: &Sae) -> Self {
        Self {
            estimator: estimator(sae),
            prefixes: Prefixes::new(&recipe.prefixes),
            budget: BudgetLoss::new(recipe, sae.device()),
            official: training.parity == Parity::Official,
            schedule: SoftSchedule::new(recipe, sae.config()),
            recipe: recipe.clone(),
        }
    }

    /// Features and k̂ by the operator; with `budget_only` its gradient goes to k̂ alone.
    fn soft(
        &self,
        all: &Parameters,
        x: &Tensor,
        z: &Tensor,
        step: u64,
    ) -> Result<(Tensor, Tensor)> {
        let k_hat = self.estimator.k_hat(all, x, z);
        let scores = match self.recipe.selection_gradient {
            SelectionGradient::BudgetOnly => z.detach(),
            SelectionGradient::Full => z.shallow_clone(),
        };
        // Over a window, the gradient of k̂ is not the operator's.
        let k = if self.recipe.k_gradient_window > 0 { k_hat.detach() } else { k_hat.copy() };
        let p = soft_topk_or_nan(&scores, &k, self.schedule.alpha(step))
            .map_err(|source| Error::Selection { step, source })?;
        Ok((z * p, k_hat))
    }

    /// A term without value whose gradient in k̂ is the mean change of the loss by a feature between
    /// k̂ − w and k̂ + w features.
    fn window(&self, all: &Parameters, target: &Tensor, z: &Tensor, k_hat: &Tensor) -> Tensor {
        let half = self.recipe.k_gradient_window as i64;
        let k = k_hat.detach().round().to_kind(Kind::Int64);
        let (low, high) = ((&k - half).clamp_min(0), (&k + half).clamp_max(z.size()[1]));
        let most = self.estimator.most() + half;
        let error = |k: &Tensor| {
            let codes = Largest::OfEachRow { k, most }.codes(z);
            let residual = target - codes.reconstruct(all);
            residual.square().sum_dim_intlist([1i64].as_slice(), false, residual.kind())
        };
        let slope = tch::no_grad(|| (error(&high) - error(&low)) / (&high - &low));
        (slope * (k_hat - k_hat.detach())).mean(k_hat.kind()) * self.prefixes.weight()
    }

    /// Codes and whole k̂ as at inference; the gradient goes through the chosen entries, in the
    /// published code through none (there the encoder learns from auxk alone).
    fn hard(&self, all: &Parameters, x: &Tensor, z: &Tensor) -> (Codes, Tensor) {
        let k = tch::no_grad(|| self.estimator.whole(&self.estimator.k_hat(all, x, z)));
        let codes = self.estimator.largest(&k).codes(z);
        (if self.official { codes.detach() } else { codes }, k)
    }

    /// The weighted error and the residual.
    fn errors<C: Decode>(
        &self,
        all: &Parameters,
        target: &Tensor,
        codes: &C,
        reconstruct: impl Fn(&C) -> Tensor,
    ) -> (Tensor, Tensor) {
        if self.prefixes.is_one() {
            let residual = target - reconstruct(codes);
            return (mean_square(&residual) * self.prefixes.weight(), residual);
        }
        self.prefixes.errors(target, codes, all)
    }

    fn hard_loss(
        &self,
        all: &Parameters,
        rows: Pair<'_>,
        z: &Tensor,
        context: Context<'_>,
    ) -> Loss {
        let Pair { x, target } = rows;
        let (codes, k_hat) = self.hard(all, x, z);
        let (mse, residual) = self.errors(all, target, &codes, |codes| codes.reconstruct(all));
        let fired = codes.fired();
        let dead = context.dead.after(&fired, x.size()[0]);
        let auxk = &self.recipe.auxk;
        // Where the encoder learns from auxk alone, it is not updated while no feature is dead.
        let auxk = (!self.official || dead.some_silent_for(auxk.dead_after_rows))
            .then(|| dead.auxk_loss(auxk, &residual, z, &all[Role::DecoderWeight]))
            .flatten();
        let terms = [("mse", Some(mse)), ("auxk", auxk)];
        let detail = self.schedule.detail(&self.recipe, context.step, k_hat);
        Loss::of(terms, Active::from(&codes), fired, detail)
    }

    fn soft_loss(
        &self,
        all: &Parameters,
        rows: Pair<'_>,
        z: &Tensor,
        context: Context<'_>,
    ) -> Result<Loss> {
        let Pair { x, target } = rows;
        let (features, k_hat) = self.soft(all, x, z, context.step)?;
        let (mse, residual) = self.errors(all, target, &features, |f| all.reconstruct(f));
        let fired = fired(&features);
        let dead = context.dead.after(&fired, x.size()[0]);
        let w_dec = &all[Role::DecoderWeight];
        let auxk = dead.auxk_loss(&self.recipe.auxk, &residual, z, w_dec);
        let mut budget = self.budget.loss(&k_hat, self.schedule.k(context.step));
        if self.recipe.k_gradient_window > 0 {
            budget += self.window(all, target, z, &k_hat);
        }
        let mean = k_hat.detach().mean(Kind::Double);
        let terms = [("mse", Some(mse)), ("auxk", auxk), ("budget", Some(budget))];
        let detail = self.schedule.detail(&self.recipe, context.step, k_hat);
        let loss = Loss::of(terms, Active::Features(features), fired, detail);
        Ok(loss.with_signal(Some(mean)))
    }
}

impl Rule for SoftRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule::CLIPPED
    }

    fn loss(&self, parameters: &Parameters, rows: Pair<'_>, context: Context<'_>) -> Result<Loss> {
        let z = parameters.pre_activations(rows.x).relu();
        if self.schedule.is_hard(context.step) {
            return Ok(self.hard_loss(parameters, rows, &z, context));
        }
        self.soft_loss(parameters, rows, &z, context)
    }

    /// The budget's multiplier follows mean k̂ of a soft step.
    fn observe(&mut self, taken: Taken<'_>) {
        if let Some(mean) = &taken.loss.signal {
            self.budget.after_step(mean, self.schedule.k(taken.step));
        }
    }

    fn save(&self) -> Value {
        self.budget.save()
    }

    fn restore(&mut self, saved: &Value) -> Result<()> {
        self.budget.restore(saved)
    }
}

#[cfg(test)]
mod tests {
    use sae_config::{Recipe, RunConfig};
    use sae_models::ModelConfig;

    use super::SoftSchedule;

    /// The schedule of 20 steps with d_model 16.
    fn schedule(parity: &str, more: &str) -> SoftSchedule {
        let text = format!(
            "data.store = ''\nsae.n_features = 64\n[training]\nsteps = 20\nbatch_size = 4\n\
             parity = '{parity}'\n[architecture]\nname = 'soft'\nk = 6\nk_anneal_steps = 5\n\
             hard_steps = 4\n{more}"
        );
        let run = toml::from_str::<RunConfig>(&text).unwrap().check().unwrap();
        let model = ModelConfig {
            d_model: 16,
            d_out: None,
            n_features: 64,
            normalization: sae_config::Normalization::None,
            code: run.code(16),
        };
        let Recipe::Soft(recipe) = &run.recipe else { panic!("{run:?}") };
        SoftSchedule::new(recipe, &model)
    }

    #[test]
    fn the_hard_phase_has_its_steps_and_one_less_with_parity() {
        let hard = |schedule: SoftSchedule| (0..20).filter(|step| schedule.is_hard(*step)).count();
        assert_eq!(hard(schedule("none", "")), 4);
        assert_eq!(hard(schedule("official", "")), 3);
    }

    #[test]
    fn the_target_falls_from_d_model_and_with_parity_starts_a_step_late() {
        let ks = |schedule: SoftSchedule| [0, 1, 2, 6, 19].map(|step| schedule.k(step));
        assert_eq!(ks(schedule("none", "")), [16.0, 16.0, 14.0, 6.0, 6.0]);
        assert_eq!(ks(schedule("official", "")), [6.0, 16.0, 14.0, 6.0, 6.0]);
        assert_eq!(ks(schedule("official", "k_first = 9")), [9.0, 16.0, 14.0, 6.0, 6.0]);
    }

    #[test]
    fn alpha_falls_to_its_end() {
        let annealed = schedule("none", "alpha = 0.1\nalpha_start = 0.9\nalpha_anneal_steps = 4");
        let alphas = [0, 1, 3, 5, 19].map(|step| annealed.alpha(step));
        for (alpha, expected) in alphas.into_iter().zip([0.9, 0.9, 0.5, 0.1, 0.1]) {
            assert!((alpha - expected).abs() < 1e-12);
        }
        assert_eq!(schedule("none", "alpha = 0.1").alpha(0), 0.1);
    }
}

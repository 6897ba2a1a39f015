//! TopK (Gao et al. 2024, arXiv:2406.04093), AbsTopK (Zhu et al. 2025, arXiv:2510.00404), BatchTopK
//! (Bussmann et al. 2024, arXiv:2412.06410) and Matryoshka BatchTopK (Bussmann et al. 2025,
//! arXiv:2503.17547): a number of features that is given.

use sae_config::{AuxKConfig, Kept, TopKRecipe};
use sae_models::{Codes, Largest, ModelConfig, Parameters, Role};
use tch::{Kind, Tensor};

use super::prefixes::Prefixes;
use super::{Active, Context, Detail, Loss, Pair, Rule, Taken};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::OptimizerRule;
use crate::schedule::Anneal;

/// Share of the old value that the moving average of a threshold keeps.
pub(crate) const KEPT: f64 = 0.999;

/// What these architectures have in common, whatever computes their steps.
pub(crate) struct TopKFamily {
    kept: Kept,
    k: Anneal,
    pub(crate) auxk: AuxKConfig,
    /// Where each prefix of the dictionary ends that is a dictionary too, and its weight.
    pub(crate) groups: Vec<(usize, f64)>,
    /// The step after which the threshold of inference follows the least feature kept.
    threshold_after: Option<u64>,
}

impl TopKFamily {
    /// # Panics
    /// If the model's code is not one of a given number of features.
    pub(crate) fn new(recipe: &TopKRecipe, model: &ModelConfig) -> Self {
        Self {
            kept: model.code.kept().expect("the code of a given number of features"),
            k: Anneal::of_k(&recipe.k, model),
            auxk: recipe.auxk.clone(),
            groups: recipe.prefixes.clone(),
            threshold_after: recipe.threshold_start_step,
        }
    }

    /// What is kept of a batch of `n_rows` at a step.
    pub(crate) fn largest(&self, step: u64, n_rows: usize) -> Largest<'static> {
        Largest::new(self.kept, self.k.at(step) as i64, n_rows as i64)
    }

    /// Whether the threshold follows the least feature kept at a step.
    pub(crate) fn follows(&self, step: u64) -> bool {
        self.threshold_after.is_some_and(|start| step > start)
    }

    /// What is known of a step.
    pub(crate) fn detail(&self, step: u64) -> Detail {
        let dead_after_rows = Some(self.auxk.dead_after_rows);
        Detail { k_target: Some(self.k.at(step).trunc()), dead_after_rows, ..Detail::default() }
    }
}

/// ‖x − x̂‖² + auxk, where there are prefixes the mean over them of weight·‖x − x̂ of the prefix‖².
pub(crate) struct TopKRule {
    family: TopKFamily,
    prefixes: Prefixes,
}

impl TopKRule {
    pub(crate) fn new(family: TopKFamily) -> Self {
        let prefixes = Prefixes::new(&family.groups);
        Self { family, prefixes }
    }
}

impl Rule for TopKRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule::CLIPPED
    }

    fn loss(&self, parameters: &Parameters, rows: Pair<'_>, context: Context<'_>) -> Result<Loss> {
        let Pair { x, target } = rows;
        let largest = self.family.largest(context.step, x.size()[0] as usize);
        let z = largest.activations(&parameters.pre_activations(x));
        let codes = largest.codes(&z);

        let (mse, residual) = if self.prefixes.is_one() {
            let residual = target - codes.reconstruct(parameters);
            (mean_square(&residual), residual)
        } else {
            self.prefixes.errors(target, &codes, parameters)
        };
        let fired = codes.fired();
        let dead = context.dead.after(&fired, x.size()[0]);
        let w_dec = &parameters[Role::DecoderWeight];
        let auxk = dead.auxk_loss(&self.family.auxk, &residual, &z, w_dec);
        let detail = self.family.detail(context.step);
        let terms = [("mse", Some(mse)), ("auxk", auxk)];
        let loss = Loss::of(terms, Active::from(&codes), fired, detail);
        let follows = self.family.follows(context.step);
        Ok(loss.with_signal(follows.then(|| least_kept(&codes, largest))))
    }

    fn observe(&mut self, taken: Taken<'_>) {
        if let Some(least) = &taken.loss.signal {
            follow(&mut taken.parameters[Role::Threshold], least);
        }
    }
}

/// Lets the moving average of the least value kept see that of a step; the average is negative
/// until the first is seen. The first is taken as it is; one that is not finite (no feature was
/// active) is not.
fn follow(threshold: &mut Tensor, least: &Tensor) {
    let _guard = tch::no_grad_guard();
    let average = &*threshold * KEPT + least * (1.0 - KEPT);
    let next = average.where_self(&threshold.ge(0.0), least);
    let next = next.where_self(&least.isfinite(), threshold);
    threshold.copy_(&next);
}

/// The least positive feature of the batch, or the mean over rows of that of each row.
fn least_kept(codes: &Codes, largest: Largest<'_>) -> Tensor {
    let _guard = tch::no_grad_guard();
    let positive = |features: &Tensor| features.masked_fill(&features.le(0.0), f64::INFINITY);
    match largest {
        Largest::OfBatch { .. } => positive(&codes.values()).min(),
        Largest::OfRows { .. } | Largest::OfEachRow { .. } => {
            let least = positive(&codes.by_row()).amin([1i64].as_slice(), false);
            let some = least.isfinite();
            let sum = least.where_self(&some, &least.zeros_like()).sum(least.kind());
            sum / some.sum(Kind::Int64)
        }
    }
}

//! The reference engine: plain libtorch operations and autograd, on any device.

use sae_config::{CheckedRun, Recipe};
use sae_models::{Parameters, Sae};
use serde_json::Value;
use tch::Tensor;
use tch_autograd::read;

use crate::engine::{Batch, Engine, EngineKind, FirstFault, Needs, check_finite};
use crate::optimizer::update;
use crate::profile::Profile;
use crate::rules::{Context, Facts, Loss, Pair, Rule, Taken, is_mean_of_rows, rule};
use crate::state::History;
use crate::{Error, Result};

/// The engine, before it runs.
pub(crate) const REFERENCE: EngineKind = EngineKind {
    name: "reference",
    limits: "computes every run",
    computes: |_, _| true,
    cuts: is_mean_of_rows,
    needs,
    start: |config, sae| Some(Box::new(ReferenceEngine::new(config, sae))),
};

/// Buffers of batch × n_features in f32 at the peak of SoftSAE's step on a GPU, where the selection
/// works in f64.
const SOFT_ON_GPU: u64 = 24;

/// Autograd keeps z, masks, codes and gradients.
fn needs(config: &CheckedRun, _d_model: usize) -> Needs {
    let of_autograd = match (&config.recipe, config.training.device.as_str()) {
        (Recipe::Soft(_), "cpu") => 10,
        (Recipe::Soft(_), _) => SOFT_ON_GPU,
        _ => 6,
    };
    Needs { micro_row: config.sae.n_features as u64 * of_autograd, batch_row: 0 }
}

/// Plain libtorch operations and autograd, on any device.
///
/// On a GPU a step reads no number from the device, with these exceptions: the first step of the
/// TopK family and of SoftSAE (the geometric median), a step after which `standard` resamples, one
/// in which the p of `p_anneal` falls, and each of the hard phase of SoftSAE with `parity`.
pub(crate) struct ReferenceEngine {
    rule: Box<dyn Rule>,
    /// Rows that are differentiated at once.
    micro_batch: i64,
    /// Absent where reading each loss waits for nothing.
    first_fault: Option<FirstFault>,
    profile: Profile,
}

impl ReferenceEngine {
    fn new(config: &CheckedRun, sae: &Sae) -> Self {
        let rule = rule(config, sae);
        let micro_batch = config.training.micro_batch as i64;
        let device = sae.device();
        let first_fault = read::waits(device).then(|| FirstFault::none(device));
        Self { rule, micro_batch, first_fault, profile: Profile::default() }
    }

    /// The loss of a batch and its gradients, part by part of the batch.
    fn differentiate(
        &mut self,
        parameters: &Parameters,
        history: &History,
        batch: &Batch<'_>,
    ) -> Result<(Loss, Vec<Tensor>)> {
        let &Batch { rows: Pair { x, target }, step, .. } = batch;
        let inputs: Vec<Tensor> =
            parameters.trained().map(|(_, value)| value.set_requires_grad(true)).collect();
        let n_rows = x.size()[0];
        let mut sum: Option<(Loss, Vec<Tensor>)> = None;
        let parts = x.split(self.micro_batch, 0);
        for (x, target) in parts.iter().zip(&target.split(self.micro_batch, 0)) {
            let context = Context { step, dead: &history.dead };
            let loss = self.rule.loss(parameters, Pair { x, target }, context)?;
            let n = x.size()[0];
            let loss = if n == n_rows { loss } else { loss.share_of(n as f64 / n_rows as f64) };
            self.profile.lap("loss");
            let total = &loss.facts.total;
            match &mut self.first_fault {
                Some(fault) => fault.see(total, step),
                None => drop(check_finite(total, step)?),
            }
            let gradients = Tensor::f_run_backward(&[total], &inputs, false, false)
                .map_err(|source| Error::Torch { step, source })?;
            self.profile.lap("gradients");
            sum = Some(match sum {
                None => (loss, gradients),
                Some((so_far, of_parts)) => (so_far.plus(loss), add(of_parts, gradients)),
            });
        }
        Ok(sum.expect("a batch has rows"))
    }
}

/// The sums of two lists of gradients; one that is undefined counts as 0.
fn add(mut sums: Vec<Tensor>, gradients: Vec<Tensor>) -> Vec<Tensor> {
    for (sum, gradient) in sums.iter_mut().zip(gradients) {
        if !sum.defined() {
            *sum = gradient;
        } else if gradient.defined() {
            *sum += gradient;
        }
    }
    sums
}

impl Engine for ReferenceEngine {
    fn step(
        &mut self,
        parameters: &mut Parameters,
        history: &mut History,
        batch: &Batch<'_>,
    ) -> Result<Facts> {
        self.profile.begin();
        let (loss, gradients) = self.differentiate(parameters, history, batch)?;
        let adam = &mut history.adam;
        update(self.rule.optimizer(), parameters.trained_mut(), adam, gradients, batch.lr);
        let &Batch { rows, step, .. } = batch;
        history.dead = history.dead.after(&loss.fired, rows.x.size()[0]);
        self.rule.observe(Taken { step, rows, loss: &loss, parameters, history });
        self.profile.lap("optimiser");
        Ok(loss.facts)
    }

    fn save(&self) -> Value {
        self.rule.save()
    }

    fn restore(&mut self, saved: &Value) -> Result<()> {
        self.rule.restore(saved)
    }

    fn profile(&self) -> Option<&Profile> {
        self.first_fault.is_none().then_some(&self.profile)
    }

    fn first_fault(&self) -> Option<&FirstFault> {
        self.first_fault.as_ref()
    }
}

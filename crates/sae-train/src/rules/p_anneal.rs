//! P-anneal: an Lp penalty whose p falls from 1 towards 0 (Karvonen et al. 2024,
//! arXiv:2408.00113).

use std::collections::VecDeque;

use sae_config::{CheckedTraining, PAnnealConfig, SparsityFunction};
use sae_models::{Parameters, Sae};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tch_autograd::read;

use super::standard::{penalised, positive};
use super::{Context, Loss, Pair, Rule, Taken};
use crate::Result;
use crate::optimizer::OptimizerRule;
use crate::schedule::sparsity_scale;

/// ‖x − x̂‖² + c·mean Σ f^p.
pub(crate) struct PAnnealRule {
    config: PAnnealConfig,
    device: Device,
    update_steps: Vec<u64>,
    p_values: Vec<f64>,
    state: PAnnealState,
    /// The penalty at p and at the next p `[2]`, in f64, of the last steps; read when p falls.
    recent: VecDeque<Tensor>,
}

/// What has become of the penalty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PAnnealState {
    p: f64,
    next_p: Option<f64>,
    coefficient: f64,
    updates: usize,
}

/// What is kept of it beside the tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(flatten)]
    state: PAnnealState,
    recent: Vec<[f64; 2]>,
}

impl PAnnealRule {
    pub(crate) fn new(config: &PAnnealConfig, training: &CheckedTraining, sae: &Sae) -> Self {
        let n = config.n_sparsity_updates as usize;
        Self {
            config: config.clone(),
            device: sae.device(),
            update_steps: update_steps(config, training),
            p_values: line(config.p_start, config.p_end, n),
            state: PAnnealState {
                p: config.p_start,
                next_p: None,
                coefficient: config.initial_sparsity_penalty,
                updates: 0,
            },
            recent: VecDeque::new(),
        }
    }

    /// Mean over rows of Σ f^p or of its root.
    fn penalty(&self, features: &Tensor, p: f64) -> Tensor {
        let sums = features.pow_tensor_scalar(p).sum_dim_intlist([1i64].as_slice(), false, None);
        match self.config.sparsity_function {
            SparsityFunction::LpToP => sums.mean(features.kind()),
            SparsityFunction::Lp => sums.pow_tensor_scalar(1.0 / p).mean(features.kind()),
        }
    }

    /// The remembered penalties as numbers.
    fn penalties(&self) -> Vec<[f64; 2]> {
        if self.recent.is_empty() {
            return Vec::new();
        }
        let all: Vec<&Tensor> = self.recent.iter().collect();
        let all = read::vector::<f64>(&Tensor::cat(&all, 0)).expect("vectors joined are one");
        all.chunks_exact(2).map(|both| [both[0], both[1]]).collect()
    }

    /// The penalty at p and at the next p, `[2]` in f64, where there is a next one.
    fn both(&self, features: &Tensor, penalty: &Tensor) -> Option<Tensor> {
        let next_p = self.state.next_p?;
        let next = tch::no_grad(|| self.penalty(features, next_p));
        let both = [penalty.detach(), next].map(|penalty| penalty.to_kind(Kind::Double));
        Some(Tensor::stack(&both, 0))
    }
}

impl Rule for PAnnealRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule::CONSTRAINED
    }

    fn loss(&self, parameters: &Parameters, rows: Pair<'_>, context: Context<'_>) -> Result<Loss> {
        let Pair { x, target } = rows;
        let features = positive(parameters, x);
        let penalty = self.penalty(&features, self.state.p);
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, context.step);
        let weighted = &penalty * (self.state.coefficient * scale);
        let both = self.both(&features, &penalty);
        Ok(penalised(target, parameters, features, weighted).with_signal(both))
    }

    /// Remembers the penalties of the step, and where p is due to fall, rescales c so that the
    /// penalty stays what it was.
    fn observe(&mut self, taken: Taken<'_>) {
        if let Some(both) = &taken.loss.signal {
            self.recent.push_back(both.shallow_clone());
            while self.recent.len() > self.config.sparsity_queue_length {
                self.recent.pop_front();
            }
        }
        if self.update_steps.get(self.state.updates).is_none_or(|&due| taken.step < due) {
            return;
        }
        if self.state.next_p.is_some() {
            let sums = self.penalties().iter().fold((0.0, 0.0), |s, r| (s.0 + r[0], s.1 + r[1]));
            if sums.1 > 0.0 {
                self.state.coefficient *= sums.0 / sums.1;
            }
        }
        self.state.p = self.p_values[self.state.updates];
        self.state.updates += 1;
        let next = self.p_values.get(self.state.updates).copied();
        self.state.next_p = Some(next.unwrap_or(self.config.p_end));
    }

    fn save(&self) -> Value {
        let saved = Saved { state: self.state.clone(), recent: self.penalties() };
        serde_json::to_value(saved).unwrap_or(Value::Null)
    }

    fn restore(&mut self, saved: &Value) -> Result<()> {
        let saved: Saved = serde_json::from_value(saved.clone())
            .map_err(|e| sae_config::Error::value("rule", "the state of p_anneal", e))?;
        let penalties = saved.recent.iter();
        self.recent =
            penalties.map(|both| Tensor::from_slice(both).to_device(self.device)).collect();
        self.state = saved.state;
        Ok(())
    }
}

/// The steps at which p falls.
pub(crate) fn update_steps(config: &PAnnealConfig, training: &CheckedTraining) -> Vec<u64> {
    let n = config.n_sparsity_updates as usize;
    let steps = line(config.anneal_start as f64, training.steps as f64, n);
    steps.into_iter().map(|step| step as u64).collect()
}

/// `n` values spaced evenly from `start` to `end`.
fn line(start: f64, end: f64, n: usize) -> Vec<f64> {
    let last = n.saturating_sub(1).max(1) as f64;
    (0..n).map(|i| start + (end - start) * i as f64 / last).collect()
}

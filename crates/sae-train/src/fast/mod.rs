//! The fast engine: the gradient in closed form, sparse wherever the codes are (CPU, f32).
//!
//! One step: z = W_enc(x − b_dec) by one dense product; the rule's selection; x̂, residual and
//! code gradients row by row; codes sorted by feature; gradients of both weight matrices feature
//! by feature; one pass over each parameter. The kernels are those of `sae-kernels`; where many
//! codes are active, dense products take their place ([`products`]).

mod auxk;
mod buffers;
mod estimator;
mod hard;
mod jumprelu;
mod products;
mod profile;
mod soft;
mod update;
mod window;

use sae_config::{ArchitectureConfig, AuxKConfig, Engine, Parity, Precision, RunConfig};
use sae_kernels::{Groups, Matrix, Rank, subtract_row};
use sae_models::{Base, Sae, prefixes};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tch_autograd::matmul_into;

use self::auxk::Revival;
use self::buffers::{Buffers, Slots, empty, rows_of, slice, slice_mut};
use self::hard::HardRule;
use self::jumprelu::JumpReluFast;
use self::soft::SoftFast;
use crate::engine::StepEngine;
use crate::geometric_median::geometric_median;
use crate::optimizer::OptimizerRule;
use crate::rules::{Detail, Loss};
use crate::state::TrainerState;
use crate::{Error, Result};

pub use profile::Profile;
use profile::{ESTIMATOR, GEMM};

/// Computes steps on the CPU in f32, for the architectures whose codes are sparse.
pub(crate) struct FastEngine {
    rule: FastRule,
    groups: Vec<(usize, f64)>,
    auxk: Option<AuxKConfig>,
    optimizer: OptimizerRule,
    slots: Slots,
    buffers: Buffers,
    revival: Revival,
    profile: Profile,
}

/// What an architecture adds to the common step.
enum FastRule {
    Hard(HardRule),
    Soft(Box<SoftFast>),
    JumpRelu(Box<JumpReluFast>),
}

/// A step's rows, and what is summed over them.
struct StepSums<'a> {
    x: &'a Tensor,
    groups: Groups,
    /// Σ‖x − x̂‖² of each group.
    errors: Vec<f64>,
}

/// What a rule says of the gradients of the step it has selected codes for.
#[derive(Debug, Clone, Copy)]
struct Reach {
    /// Whether the encoder has a gradient.
    encoder: bool,
    /// Whether b_dec is subtracted from what the encoder reads.
    centred: bool,
}

/// Whether the engine computes this run: where it can unless the configuration says otherwise.
pub(crate) fn chosen(config: &RunConfig, model: &Base) -> Result<bool> {
    let able = model.device() == Device::Cpu && model.kind() == Kind::Float;
    let asked = config.training.engine == Some(Engine::Fast);
    if asked && !able {
        return Err(unable());
    }
    Ok(able && applies(config)?)
}

/// The same as far as the configuration decides it.
pub(crate) fn applies(config: &RunConfig) -> Result<bool> {
    let able = config.architecture.has_fast_engine();
    let halved = config.training.precision == Some(Precision::Bf16);
    match config.training.engine {
        Some(Engine::Fast) if !able || halved => Err(unable()),
        Some(Engine::Reference) => Ok(false),
        _ => Ok(able && !halved),
    }
}

fn unable() -> Error {
    let expected = "`reference`: `fast` is for f32 on the CPU, with sparse codes and, in `soft`, \
                    the `mlp` or `narrow` estimator";
    Error::Config(sae_config::Error::value("training.engine", expected, "`fast`"))
}

impl FastEngine {
    /// An engine for `state`.
    pub(crate) fn new(state: &TrainerState) -> Result<Self> {
        let n_features = state.sae.config().n_features;
        let official = state.config.training.parity == Parity::Official;
        let slots = Slots::find(&state.parameters);
        let sae = state.sae.as_ref();
        let mut groups = vec![(n_features, 1.0)];
        let (rule, auxk) = match &state.config.architecture {
            ArchitectureConfig::TopK(c) => {
                (FastRule::Hard(HardRule::rows(c, official, sae)?), Some(c.auxk.clone()))
            }
            ArchitectureConfig::AbsTopK(c) => {
                (FastRule::Hard(HardRule::magnitudes(c, official, sae)), Some(c.auxk.clone()))
            }
            ArchitectureConfig::BatchTopK(c) => {
                (FastRule::Hard(HardRule::batch(c, official, sae)?), Some(c.auxk.clone()))
            }
            ArchitectureConfig::MatryoshkaBatchTopK(c) => {
                groups = prefixes(&c.group_fractions, c.group_weights.as_deref(), n_features);
                (FastRule::Hard(HardRule::matryoshka(c, official, sae)?), Some(c.auxk.clone()))
            }
            ArchitectureConfig::Soft(c) => {
                groups = prefixes(&c.group_fractions, c.group_weights.as_deref(), n_features);
                let weight = groups.iter().map(|g| g.1).sum::<f64>() / groups.len() as f64;
                let soft = SoftFast::new(c, &state.config.training, weight, sae);
                (FastRule::Soft(Box::new(soft)), Some(c.auxk.clone()))
            }
            ArchitectureConfig::JumpRelu(c) => {
                (FastRule::JumpRelu(Box::new(JumpReluFast::new(c, n_features))), None)
            }
            ArchitectureConfig::Gated(_)
            | ArchitectureConfig::Standard(_)
            | ArchitectureConfig::StandardApril(_)
            | ArchitectureConfig::PAnneal(_) => return Err(unable()),
        };
        let mut optimizer = OptimizerRule::CLIPPED;
        if let FastRule::JumpRelu(_) = rule {
            optimizer.beta1 = 0.0;
        }
        Ok(Self {
            rule,
            groups,
            auxk,
            optimizer,
            slots,
            buffers: Buffers::default(),
            revival: Revival::default(),
            profile: Profile::default(),
        })
    }

    /// Factors of the groups' residuals in the gradient, and the groups.
    fn kernel_groups(&self, batch: usize) -> Result<Groups> {
        let n_groups = self.groups.len() as f64;
        let scale = |weight: &f64| (2.0 * weight / (n_groups * batch as f64)) as f32;
        let factors = self.groups.iter().map(|(_, weight)| scale(weight)).collect();
        Ok(Groups::new(self.groups.iter().map(|(end, _)| *end).collect(), factors)?)
    }

    /// z and the rule's codes of the batch, as many rows at a time as the buffers hold; in a step
    /// that streams, their use too.
    fn encode(&mut self, state: &mut TrainerState, step: &mut StepSums<'_>) -> Result<()> {
        for rows in self.buffers.micro_batches() {
            let (buffers, parameters) = (&mut self.buffers, &state.parameters);
            let mut z = rows_of(&buffers.z, &(0..rows.len()));
            let w_enc = parameters[self.slots.w_enc].value.tr();
            matmul_into(&rows_of(&buffers.centred, &rows), &w_enc, &mut z, false)?;
            drop(z);
            self.profile.lap(GEMM);
            let slots = &self.slots;
            match &mut self.rule {
                FastRule::Hard(rule) => {
                    rule.select(state.step, &rows, &slots.b_enc(parameters)?, buffers)?;
                }
                FastRule::Soft(rule) => {
                    let profile = &mut self.profile;
                    rule.estimator.estimate(&rows, parameters, slots, buffers, profile)?;
                    rule.select(state.step, &rows, parameters, slots, buffers)?;
                }
                FastRule::JumpRelu(rule) => rule.select(&rows, parameters, slots, buffers)?,
            }
            self.profile.lap("selection");
            if self.buffers.streams {
                self.buffers.count_fired(&mut state.dead)?;
                self.use_codes(state, step, self.auxk.is_some())?;
            }
        }
        Ok(())
    }

    /// Rebuilds the rows that there are codes of, and takes the gradient back to pre-activations;
    /// where the codes are dense, to the weights too.
    fn use_codes(
        &mut self,
        state: &TrainerState,
        step: &mut StepSums<'_>,
        wants_residual: bool,
    ) -> Result<()> {
        let (parameters, slots, buffers) = (&state.parameters, &self.slots, &mut self.buffers);
        let errors = products::reconstruct(
            step.x,
            parameters,
            slots,
            &step.groups,
            wants_residual,
            buffers,
        )?;
        step.errors.resize(errors.len(), 0.0);
        step.errors.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
        self.profile.lap("reconstruction");
        match &mut self.rule {
            FastRule::Hard(_) => {}
            FastRule::Soft(rule) => rule.code_backward(state.step, buffers)?,
            FastRule::JumpRelu(rule) => rule.code_backward(parameters, slots, buffers)?,
        }
        self.profile.lap(ESTIMATOR);
        if buffers.is_dense {
            products::add_dense_gradients(buffers)?;
        }
        self.profile.lap("weight gradients");
        Ok(())
    }

    /// What is known of a step whose codes are selected, and how far its gradients reach.
    fn selected(&mut self, step: u64) -> (Detail, Reach) {
        match &mut self.rule {
            FastRule::Hard(rule) => {
                (rule.finish(step, &self.buffers.codes), Reach { encoder: true, centred: true })
            }
            FastRule::Soft(rule) => (rule.detail(step), rule.reach()),
            FastRule::JumpRelu(rule) => {
                (rule.detail(), Reach { encoder: true, centred: rule.centred() })
            }
        }
    }

    fn step_in_place(&mut self, state: &mut TrainerState, x: &Tensor) -> Result<Loss> {
        let x = x.contiguous();
        let config = state.sae.config();
        let (batch, d, f) = (x.size()[0] as usize, config.d_model, config.n_features);
        let step = state.step;
        self.profile.begin();
        let is_new = step == 0 && state.config.training.init.is_none();
        if is_new && !matches!(self.rule, FastRule::JumpRelu(_)) {
            state.parameters[self.slots.b_dec].value.copy_(&geometric_median(&x));
        }
        let micro = state.config.training.micro_batch.unwrap_or(batch).min(batch);
        self.buffers.fit(batch, micro, d, f, self.groups.len());
        let centred = !matches!(&self.rule, FastRule::JumpRelu(rule) if !rule.centred());
        if centred {
            let b_dec = slice(&state.parameters[self.slots.b_dec].value)?;
            let rows = slice(&x)?;
            let rows = Matrix::new("x", &rows, d)?;
            subtract_row(rows, &b_dec, slice_mut(&mut self.buffers.centred)?)?;
        } else {
            self.buffers.centred.copy_(&x);
        }
        self.profile.lap("centre");
        let mut sums = StepSums { x: &x, groups: self.kernel_groups(batch)?, errors: Vec::new() };
        self.encode(state, &mut sums)?;
        let (detail, reach) = self.selected(step);
        if !self.buffers.streams {
            self.buffers.count_fired(&mut state.dead)?;
        }
        let dead = match &self.auxk {
            Some(config) => auxk::dead_features(config, &state.dead)?,
            None => Vec::new(),
        };
        if !self.buffers.streams {
            self.use_codes(state, &mut sums, !dead.is_empty())?;
        }
        let StepSums { groups, errors, .. } = sums;
        let n_groups = self.groups.len() as f64;
        let weighted = errors.iter().zip(&self.groups).map(|(error, (_, weight))| error * weight);
        let mse = weighted.sum::<f64>() / (n_groups * batch as f64);

        let mut parts = vec![("mse", mse)];
        let reach = Reach { encoder: reach.encoder || !dead.is_empty(), ..reach };
        let auxk = self.auxk.as_ref().filter(|_| !dead.is_empty());
        if let Some(config) = auxk {
            let chosen = auxk::Chosen {
                dead: &dead,
                biased: matches!(self.rule, FastRule::Soft(_)),
                rank: match &self.rule {
                    FastRule::Hard(rule) => rule.rank(),
                    FastRule::Soft(_) | FastRule::JumpRelu(_) => Rank::Value,
                },
            };
            let (parameters, slots) = (&state.parameters, &self.slots);
            let loss = self.revival.add(config, chosen, parameters, slots, &self.buffers)?;
            parts.push(("auxk", loss));
        }
        self.profile.lap("auxk");
        let (parameters, slots, buffers) = (&state.parameters, &self.slots, &self.buffers);
        match &mut self.rule {
            FastRule::Hard(_) => {}
            FastRule::Soft(rule) => {
                let profile = &mut self.profile;
                parts.extend(rule.backward(step, parameters, slots, buffers, profile)?);
            }
            FastRule::JumpRelu(rule) => {
                parts.push(("sparsity", rule.backward(step, parameters, slots, buffers)?));
            }
        }
        self.profile.lap(ESTIMATOR);
        let revival = if auxk.is_some() { self.revival.source() } else { None };
        let norms = products::weight_gradients(
            &state.parameters,
            &self.slots,
            &groups,
            revival,
            reach,
            &mut self.buffers,
        )?;
        self.profile.lap("weight gradients");
        let total: f64 = parts.iter().map(|(_, part)| part).sum();
        if !total.is_finite() {
            return Err(Error::LossNotFinite { step, loss: total });
        }
        let lr = state.lr();
        self.update(state, norms, reach, lr)?;
        if let FastRule::Soft(rule) = &mut self.rule {
            rule.estimator.release(&self.buffers.z);
        }
        self.profile.lap("optimiser");
        Ok(Loss::known(
            total,
            &parts,
            self.buffers.l0(),
            Detail { dead_after_rows: self.auxk.as_ref().map(|c| c.dead_after_rows), ..detail },
        ))
    }
}

impl StepEngine for FastEngine {
    fn step(&mut self, state: &mut TrainerState, x: &Tensor) -> Result<Loss> {
        let _guard = tch::no_grad_guard();
        take_parameters(state)?;
        self.step_in_place(state, x)
    }

    fn save(&self) -> Value {
        match &self.rule {
            FastRule::Soft(rule) => rule.budget.save(),
            FastRule::Hard(_) | FastRule::JumpRelu(_) => Value::Null,
        }
    }

    fn restore(&mut self, saved: &Value) -> Result<()> {
        match &mut self.rule {
            FastRule::Soft(rule) => rule.budget.restore(saved),
            FastRule::Hard(_) | FastRule::JumpRelu(_) => Ok(()),
        }
    }

    fn publish(&self, state: &TrainerState) {
        let _guard = tch::no_grad_guard();
        for (name, tensor) in state.sae.parameters() {
            if let Some(parameter) = state.parameters.iter().find(|p| p.name == name) {
                tensor.shallow_clone().set_data(&parameter.value);
            }
        }
    }

    fn profile(&self) -> Option<&Profile> {
        Some(&self.profile)
    }
}

/// Takes the memory of the parameters from the model, which `publish` lends it again.
///
/// Kernels write to it in place, so no other handle may reach it; where one does all the same, a
/// copy takes its place.
fn take_parameters(state: &mut TrainerState) -> Result<()> {
    for parameter in &mut state.parameters {
        parameter.value = parameter.value.detach();
    }
    let nothing = empty(&[0]);
    for (_, tensor) in state.sae.parameters() {
        tensor.shallow_clone().f_set_data(&nothing)?;
    }
    for parameter in &mut state.parameters {
        if slice_mut::<f32>(&mut parameter.value).is_err() {
            parameter.value = parameter.value.contiguous().copy();
        }
    }
    Ok(())
}

/// The threshold buffer of a model that keeps one.
fn threshold_buffer(sae: &dyn Sae) -> Result<Tensor> {
    crate::rules::tensor(sae, "threshold")
}

//! What computes a step: engines, and the table that chooses one.

use sae_config::{CheckedRun, Recipe};
use sae_models::{Parameters, Sae};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tch_autograd::read;

use crate::fast::FAST;
use crate::profile::Profile;
use crate::reference::REFERENCE;
use crate::rules::{Facts, Pair};
use crate::state::History;
use crate::{Error, Result};

/// Computes optimiser steps.
pub(crate) trait Engine: Send {
    /// One step: borrows the parameters and what earlier steps left, and changes both.
    fn step(
        &mut self,
        parameters: &mut Parameters,
        history: &mut History,
        batch: &Batch<'_>,
    ) -> Result<Facts>;

    /// What must be kept beside parameters and history to go on.
    fn save(&self) -> Value;

    /// Takes back what `save` gave.
    fn restore(&mut self, saved: &Value) -> Result<()>;

    /// Where the time of its steps goes, where they take the time of the CPU.
    fn profile(&self) -> Option<&Profile>;

    /// The first step whose loss was not finite, where the engine does not see it at once.
    fn first_fault(&self) -> Option<&FirstFault> {
        None
    }
}

/// An engine, before it runs.
pub(crate) struct EngineKind {
    pub(crate) name: &'static str,
    /// What it cannot do, where it is asked for that.
    pub(crate) limits: &'static str,
    /// Whether it computes a run in tensors of this kind.
    pub(crate) computes: fn(&CheckedRun, Kind) -> bool,
    /// Whether it computes a step over the whole batch by as many rows at a time as
    /// `training.micro_batch` says.
    pub(crate) cuts: fn(&Recipe) -> bool,
    /// The memory that a step takes, of activations of this dimension.
    pub(crate) needs: fn(&CheckedRun, usize) -> Needs,
    /// Starts it; none where it does not compute the run.
    pub(crate) start: fn(&CheckedRun, &Sae) -> Option<Box<dyn Engine>>,
}

/// The memory that a step takes beside parameters and rows, in floats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// For each row of a micro-batch.
    pub(crate) micro_row: u64,
    /// For each row of the batch.
    pub(crate) batch_row: u64,
}

/// The engines.
const fn engine(setting: sae_config::Engine) -> &'static EngineKind {
    match setting {
        sae_config::Engine::Fast => &FAST,
        sae_config::Engine::Reference => &REFERENCE,
    }
}

/// The engine of a run in tensors of this kind.
///
/// # Errors
/// An engine that is asked for and does not compute the run, or a micro-batch that it cannot cut.
pub(crate) fn choose(config: &CheckedRun, kind: Kind) -> Result<&'static EngineKind> {
    let training = &config.training;
    let mut engine = engine(training.engine);
    if !(engine.computes)(config, kind) {
        if training.names_engine {
            let expected = format!("`{}`: `{}` {}", REFERENCE.name, engine.name, engine.limits);
            let got = format!("`{}`", engine.name);
            return Err(sae_config::Error::value("training.engine", expected, got).into());
        }
        engine = &REFERENCE;
    }
    let rows = training.micro_batch;
    if rows < training.batch_size && !(engine.cuts)(&config.recipe) {
        let expected = format!(
            "{}, the whole batch: the loss of `{}` is no mean of rows, and the {} engine adds up \
             gradients",
            training.batch_size,
            config.architecture(),
            engine.name
        );
        return Err(sae_config::Error::value("training.micro_batch", expected, rows).into());
    }
    Ok(engine)
}

/// Starts the engine of a run of `sae`.
///
/// # Errors
/// As [`choose`].
pub(crate) fn start(config: &CheckedRun, sae: &Sae) -> Result<Box<dyn Engine>> {
    let engine = choose(config, sae.kind())?;
    Ok((engine.start)(config, sae).expect("an engine that computes the run"))
}

/// What a step is computed from.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    /// The rows, normalised.
    pub(crate) rows: Pair<'a>,
    /// The step, counted from 0.
    pub(crate) step: u64,
    /// The learning rate.
    pub(crate) lr: f64,
}

/// The first step whose loss was not finite, and that loss: on the device until somebody asks.
#[derive(Debug)]
pub(crate) struct FirstFault {
    /// −1 as long as there is none.
    step: Tensor,
    loss: Tensor,
}

impl FirstFault {
    pub(crate) fn none(device: Device) -> Self {
        let number = |value: f64, kind| Tensor::full([0i64; 0], value, (kind, device));
        Self { step: number(-1.0, Kind::Int64), loss: number(0.0, Kind::Double) }
    }

    pub(crate) fn see(&mut self, loss: &Tensor, step: u64) {
        let loss = loss.detach().to_kind(Kind::Double);
        let is_first = loss.isfinite().logical_not().logical_and(&self.step.lt(0));
        self.step = self.step.masked_fill(&is_first, step as i64);
        self.loss = loss.where_self(&is_first, &self.loss);
    }

    /// Another handle of what is known now.
    pub(crate) fn alias(&self) -> Self {
        Self { step: self.step.shallow_clone(), loss: self.loss.shallow_clone() }
    }

    /// # Errors
    /// That loss, with its step.
    pub(crate) fn check(&self) -> Result<()> {
        match u64::try_from(read::whole_number(&self.step)) {
            Ok(step) => Err(Error::LossNotFinite { step, loss: read::number(&self.loss) }),
            Err(_) => Ok(()),
        }
    }
}

/// The loss as a number; NaN and infinity are errors.
pub(crate) fn check_finite(loss: &Tensor, step: u64) -> Result<f64> {
    let value = read::number(loss);
    if value.is_finite() { Ok(value) } else { Err(Error::LossNotFinite { step, loss: value }) }
}

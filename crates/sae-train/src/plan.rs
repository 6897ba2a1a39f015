//! The memory that a run will take, before it starts.

#[cfg(test)]
mod tests;

use std::fmt;

use sae_config::{CheckedRun, Code, EstimatorNetwork};
use sae_data::Ports;
use tch::{Device, Kind};
use tch_autograd::DeviceMemory;

use crate::batches::STAGED;
use crate::device::run_device;
use crate::engine::{Needs, choose};
use crate::{Error, Result};

const BYTES: u64 = 4;

/// The least micro-batch that is worth having.
const LEAST_MICRO_BATCH: u64 = 16;

/// Bytes that training a run takes at its peak, by what they are for.
///
/// Loader buffers and libtorch itself (about 0.3 GB) come on top; on a GPU, what its allocator
/// cannot use for being in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights and biases.
    pub parameters: u64,
    /// Both moments of Adam.
    pub moments: u64,
    /// Gradients of the parameters.
    pub gradients: u64,
    /// Buffers of batch × n_features, or of micro_batch × n_features.
    pub dense: u64,
    /// Codes, and buffers of batch × dimension.
    pub batch: u64,
    /// The window of rows of a live host; the host itself is not part of the plan.
    pub window: u64,
    /// Which engine computes the steps.
    pub engine: &'static str,
    /// Whether `training.micro_batch` may be smaller than the batch.
    may_cut: bool,
}

impl MemoryPlan {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.parameters + self.moments + self.gradients + self.dense + self.batch + self.window
    }

    /// Refuses a run that needs more than the bytes that are free.
    ///
    /// # Errors
    /// The setting to change: `training.micro_batch`, with a value that fits, where one does and
    /// the step can be cut so; `training.batch_size` where buffers of the batch take most of it, or
    /// `data.window_bytes` where the window does; else `sae.n_features`.
    pub fn check(&self, config: &CheckedRun, free: u64) -> Result<()> {
        if self.total() <= free {
            return Ok(());
        }
        let mega = |bytes: u64| bytes / 1_000_000;
        let training = &config.training;
        let place = match training.device.as_str() {
            "cpu" => String::new(),
            device => format!(" that are free on {device}"),
        };
        let (total, free_mega) = (mega(self.total()), mega(free));
        let needs = format!("fits into {free_mega} MB{place}: this one needs {total} MB");
        let rows = training.micro_batch;
        let others = self.total() - self.dense;
        let fitting = free.saturating_sub(others) / (self.dense / rows as u64).max(1);
        let error = if self.may_cut && fitting >= LEAST_MICRO_BATCH {
            let expected = format!("at most {fitting}, so that the run {needs}");
            sae_config::Error::value("training.micro_batch", expected, rows)
        } else if self.dense + self.batch > self.total() / 2 {
            let of_batch = mega(self.dense + self.batch);
            let expected =
                format!("a run that {needs}, {of_batch} MB of it for buffers of the batch");
            sae_config::Error::value("training.batch_size", expected, training.batch_size)
        } else if let Some(live) =
            config.data.live.as_ref().filter(|_| self.window > self.total() / 2)
        {
            let of_window = mega(self.window);
            let expected =
                format!("a run that {needs}, {of_window} MB of it for the window of rows");
            sae_config::Error::value("data.window_bytes", expected, live.window_bytes)
        } else {
            let expected = format!("a run that {needs}");
            sae_config::Error::value("sae.n_features", expected, config.sae.n_features)
        };
        Err(Error::Config(error))
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line =
            |name: &str, bytes: u64| writeln!(f, "{name:12} {:>9} MB", bytes / 1_000_000);
        line("parameters", self.parameters)?;
        line("moments", self.moments)?;
        line("gradients", self.gradients)?;
        line("batch × F", self.dense)?;
        line("batch × D", self.batch)?;
        if self.window > 0 {
            line("window", self.window)?;
        }
        line("total", self.total())
    }
}

/// The memory that training `config` on activations of these dimensions takes, in f32.
///
/// On the reference engine the dense buffers are an estimate.
///
/// # Errors
/// A configuration that no engine computes as it is written.
pub fn plan(config: &CheckedRun, dimensions: Ports<usize>) -> Result<MemoryPlan> {
    let engine = choose(config, Kind::Float)?;
    let (batch, f) = (config.training.batch_size as u64, config.sae.n_features as u64);
    let (d_in, d_out) = (dimensions.input as u64, *dimensions.output() as u64);
    let n_groups = config.recipe.prefixes(config.sae.n_features).len() as u64;
    let n_parameters = f * (d_in + d_out) + f + d_out + estimator_size(config, dimensions.input).0;
    let micro = config.training.micro_batch as u64;
    let given = dimensions.each().map(|d| *d as u64).sum::<u64>();
    let staged = if config.training.device == "cpu" { 0 } else { STAGED as u64 * batch * given };
    // The rows that are read, and of a transcoder as many that are rebuilt.
    let rows = 2 * given;
    let Needs { micro_row, batch_row } = (engine.needs)(config, dimensions.input);
    Ok(MemoryPlan {
        parameters: BYTES * n_parameters,
        moments: BYTES * 2 * n_parameters,
        gradients: BYTES * n_parameters,
        dense: BYTES * micro * micro_row,
        batch: BYTES * (batch * (rows + n_groups * d_out + batch_row) + staged),
        window: config
            .data
            .live
            .as_ref()
            .map_or(0, |live| live.window_memory(dimensions.input, dimensions.target)),
        engine: engine.name,
        may_cut: (engine.cuts)(&config.recipe),
    })
}

/// Parameters of the k-estimator, and units of its hidden layer where that is not z itself.
pub(crate) fn estimator_size(config: &CheckedRun, d_model: usize) -> (u64, u64) {
    let Code::Soft(soft) = config.code(d_model) else { return (0, 0) };
    let (d, f) = (d_model as u64, config.sae.n_features as u64);
    match soft.k_estimator {
        EstimatorNetwork::TwoLayers { hidden_units } => {
            let units = hidden_units as u64;
            ((d + 2) * units, units)
        }
        EstimatorNetwork::LowRank { rank } => ((f + d) * rank as u64 + 2 * f, f),
        EstimatorNetwork::Shared => (f, 0),
    }
}

/// Refuses a run that does not fit into what is free now on its device.
pub(crate) fn check_memory(config: &CheckedRun, dimensions: Ports<usize>) -> Result<()> {
    match memory(run_device(config)?)? {
        Some(memory) => plan(config, dimensions)?.check(config, memory.free),
        None => Ok(()),
    }
}

/// The memory of a device, where the system tells it: of the CPU, that of the machine.
///
/// # Errors
/// A GPU that does not answer.
pub fn memory(device: Device) -> Result<Option<DeviceMemory>> {
    DeviceMemory::of(device)
        .map_err(|source| Error::Memory { device: format!("{device:?}"), source })
}

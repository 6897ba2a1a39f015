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
    /// The window of rows of a live host.
    pub window: u64,
    /// The weights of a live host, where they are counted ([`MemoryPlan::with_host`]).
    pub host: u64,
    /// Runs that train together.
    pub n_runs: usize,
    /// Which engine computes the steps.
    pub engine: &'static str,
    /// Whether `training.micro_batch` may be smaller than the batch.
    may_cut: bool,
}

impl MemoryPlan {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let Self { parameters, moments, gradients, dense, batch, window, host, .. } = self;
        *parameters + *moments + *gradients + *dense + *batch + *window + *host
    }

    /// Counts the weights of a live host too.
    #[must_use]
    pub fn with_host(self, host: u64) -> Self {
        Self { host, ..self }
    }

    /// Both of two plans, of runs that train together: they share the window and the host.
    fn and(self, other: Self) -> Self {
        Self {
            parameters: self.parameters + other.parameters,
            moments: self.moments + other.moments,
            gradients: self.gradients + other.gradients,
            dense: self.dense + other.dense,
            batch: self.batch + other.batch,
            window: self.window.max(other.window),
            host: self.host.max(other.host),
            n_runs: self.n_runs + other.n_runs,
            engine: if self.engine == other.engine { self.engine } else { "fast and reference" },
            may_cut: false,
        }
    }

    /// Refuses a run that needs more than the bytes that are free.
    ///
    /// # Errors
    /// The setting to change: `training.micro_batch`, with a value that fits, where one does and
    /// the step can be cut so; `training.batch_size` where buffers of the batch take most of it,
    /// `data.window_bytes` where the window does, or `data.host` where the host does; else
    /// `sae.n_features`. Of several runs, `runs`.
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
        if self.n_runs > 1 {
            let expected = format!(
                "fewer at a time, so that they fit into {free_mega} MB{place}: these need {total} MB"
            );
            let got = format!("{} that train together", self.n_runs);
            return Err(sae_config::Error::value("runs", expected, got).into());
        }
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
        } else if let Some(live) =
            config.data.live.as_ref().filter(|_| self.host > self.total() / 2)
        {
            let expected = format!("a run that {needs}, {} MB of it for the host", mega(self.host));
            sae_config::Error::value("data.host", expected, live.host.display())
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
        if self.host > 0 {
            line("host", self.host)?;
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
        host: 0,
        n_runs: 1,
        engine: engine.name,
        may_cut: (engine.cuts)(&config.recipe),
    })
}

/// The memory that training runs of one stream together takes, none if there are none.
///
/// # Errors
/// As [`plan`].
pub fn plan_together<'a>(
    configs: impl IntoIterator<Item = &'a CheckedRun>,
    dimensions: Ports<usize>,
) -> Result<Option<MemoryPlan>> {
    let plans = configs.into_iter().map(|config| plan(config, dimensions));
    let plans = plans.collect::<Result<Vec<_>>>()?;
    Ok(plans.into_iter().reduce(MemoryPlan::and))
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

/// Refuses runs of one stream that do not fit together into what is free now on their device; the
/// host of live ones is loaded by now.
pub(crate) fn check_memory(configs: &[&CheckedRun], dimensions: Ports<usize>) -> Result<()> {
    let Some(first) = configs.first() else { return Ok(()) };
    let memory = memory(run_device(first)?)?;
    match (memory, plan_together(configs.iter().copied(), dimensions)?) {
        (Some(memory), Some(plan)) => plan.check(first, memory.free),
        _ => Ok(()),
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

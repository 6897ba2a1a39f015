//! The memory that a run will take, before it starts.

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

#[cfg(test)]
mod tests {
    use sae_config::{Engine, RunConfig};
    use sae_data::Ports;

    use super::{MemoryPlan, STAGED};
    use crate::Result;

    fn config(architecture: &str) -> RunConfig {
        let text = format!(
            "[data]\nstore = \"none\"\n[sae]\nn_features = 16384\n[training]\nsteps = 10\n\
             batch_size = 2048\n[architecture]\n{architecture}"
        );
        toml::from_str(&text).unwrap()
    }

    fn planned(config: &RunConfig, d_model: usize) -> MemoryPlan {
        super::plan(&config.check().unwrap(), d_model.into()).unwrap()
    }

    fn check(plan: &MemoryPlan, config: &RunConfig, free: u64) -> Result<()> {
        plan.check(&config.check().unwrap(), free)
    }

    #[test]
    fn the_fast_engine_stays_within_six_dense_buffers() {
        for architecture in [
            "name = \"topk\"\nk = 64",
            "name = \"soft\"\nk = 64",
            "name = \"soft\"\nk = 64\nk_estimator = { narrow = {} }",
        ] {
            let plan = planned(&config(architecture), 768);
            assert_eq!(plan.engine, "fast");
            let bound = 3 * plan.parameters + 6 * 4 * 2048 * 16384;
            assert!(plan.total() <= bound, "{plan}: {} > {bound}", plan.total());
        }
    }

    #[test]
    fn both_widths_of_a_transcoder_count() {
        let config = config("name = \"topk\"\nk = 64");
        let ports =
            |input, target| super::plan(&config.check().unwrap(), Ports { input, target }).unwrap();
        let (sae, transcoder) = (ports(768, None), ports(768, Some(3072)));
        let n_parameters = 16384 * (768 + 3072) + 16384 + 3072;
        assert_eq!(transcoder.parameters, 4 * n_parameters);
        assert_eq!(transcoder.moments, 8 * n_parameters);
        assert_eq!(transcoder.dense, sae.dense);
        assert_eq!(transcoder.batch - sae.batch, 4 * 2048 * (3 * 3072 - 768));
        let mut on_gpu = config.clone();
        on_gpu.training.device = "cuda".into();
        let on_gpu = on_gpu.check().unwrap();
        let staged = |input, target| super::plan(&on_gpu, Ports { input, target }).unwrap().batch;
        let more = staged(768, Some(3072)) - staged(768, None);
        assert_eq!(more - (transcoder.batch - sae.batch), 4 * STAGED as u64 * 2048 * 3072);
    }

    #[test]
    fn annealing_takes_room_for_its_first_codes() {
        let soft = |more: &str| config(&format!("name = \"soft\"\nk = 64\n{more}"));
        let total = |more: &str| planned(&soft(more), 768).total();
        let plain = total("");
        assert_eq!(total("alpha_start = 1.0"), plain);
        let mut annealed = soft("alpha_start = 1.0\nalpha_anneal_steps = 5");
        let whole = planned(&annealed, 768);
        assert!(whole.total() > plain + 40 * 2048 * 16384);
        annealed.training.micro_batch = Some(256);
        let cut = planned(&annealed, 768);
        assert_eq!((cut.dense * 8, cut.batch), (whole.dense, whole.batch));
        let plain = planned(&config("name = \"topk\"\nk = 64"), 768);
        let falling = planned(&config("name = \"topk\"\nk = 64\nk_anneal_steps = 5"), 768);
        assert_eq!(falling.batch - plain.batch, 4 * 8 * 2048 * (768 - 64));
    }

    #[test]
    fn a_run_that_cannot_fit_names_the_setting() {
        let config = config("name = \"topk\"\nk = 64");
        let plan = planned(&config, 768);
        assert!(check(&plan, &config, plan.total()).is_ok());
        let refusal = |free: u64| check(&plan, &config, free).unwrap_err().to_string();
        let error = refusal(plan.total() - 1);
        assert!(error.starts_with("`training.micro_batch`: expected at most 2047"), "{error}");
        let mut cut = config.clone();
        cut.training.micro_batch = Some(2047);
        let smaller = planned(&cut, 768);
        assert!(check(&smaller, &cut, plan.total() - 1).is_ok());
        let error = refusal(plan.total() - plan.dense);
        assert!(error.starts_with("`sae.n_features`: expected a run that fits"), "{error}");
        let wide = planned(&cut, 8);
        let error = check(&wide, &cut, 1 << 20).unwrap_err().to_string();
        assert!(error.starts_with("`training.batch_size`: expected a run that fits"), "{error}");
    }

    #[test]
    fn on_a_gpu_the_setting_is_one_that_may_change_there() {
        let on_gpu = |architecture: &str| {
            let mut config = config(architecture);
            config.training.device = "cuda:1".into();
            config
        };
        let topk = on_gpu("name = \"topk\"\nk = 64");
        let there = planned(&topk, 768);
        assert_eq!(there.engine, "reference");
        let mut here = topk.clone();
        here.training.device = "cpu".into();
        here.training.engine = Some(Engine::Reference);
        let here = planned(&here, 768);
        assert_eq!(there.batch - here.batch, 4 * STAGED as u64 * 2048 * 768);
        let error = check(&there, &topk, there.total() - 1).unwrap_err().to_string();
        let start = "`training.batch_size`: expected a run that fits into ";
        assert!(error.starts_with(start), "no micro-batch for this rule: {error}");
        assert!(error.contains(" MB that are free on cuda:1: this one needs "), "{error}");
        let gated = on_gpu("name = \"gated\"\nl1_penalty = 0.1");
        let there = planned(&gated, 768);
        let error = check(&there, &gated, there.total() - 1).unwrap_err().to_string();
        assert!(error.starts_with("`training.micro_batch`: expected at most 2047"), "{error}");
    }

    #[test]
    fn the_window_of_a_live_run_counts() {
        let stored = config("name = \"topk\"\nk = 64");
        let live = |bytes: u64| {
            let data = format!(
                "host = 'h'\nhook = 'embed'\ntarget_hook = 'mlp_out.1'\ncorpus = {{ path = 'c' }}\n\
                 window_bytes = {bytes}"
            );
            RunConfig { data: toml::from_str(&data).unwrap(), ..stored.clone() }
        };
        let ports = Ports { input: 768, target: Some(512) };
        let planned = |config: &RunConfig| super::plan(&config.check().unwrap(), ports).unwrap();
        let (run, large) = (live(4 * 768 * 1000), live(1 << 40));
        let (alone, with) = (planned(&stored), planned(&run));
        assert_eq!((alone.window, with.window), (0, 4 * 1000 * (768 + 512 + 1)));
        assert_eq!(with.total() - with.window, alone.total());
        assert!(with.to_string().contains("\nwindow "), "{with}");
        let plan = planned(&large);
        let mut cut = large.clone();
        cut.training.micro_batch = Some(16);
        let error = check(&plan, &cut, 1 << 30).unwrap_err().to_string();
        assert!(error.starts_with("`data.window_bytes`: expected a run that fits"), "{error}");
    }
}

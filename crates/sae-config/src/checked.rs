//! A run that is decided: every value in its range, nothing left open.

use std::path::PathBuf;

use crate::{
    ArchitectureConfig, Code, DataConfig, Engine, Error, Parity, Precision, Recipe, Result,
    RunConfig, SaeConfig, TrainingConfig,
};

/// A run that is decided, made by [`RunConfig::check`].
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedRun {
    /// The activations.
    pub data: DataConfig,
    /// What all architectures share.
    pub sae: SaeConfig,
    /// How the architecture is trained.
    pub recipe: Recipe,
    /// Length, batches, learning rate, device.
    pub training: CheckedTraining,
    settings: RunConfig,
}

/// Length, batches, learning rate, device and bookkeeping of a run that is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedTraining {
    /// Optimiser steps.
    pub steps: u64,
    /// Rows a step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of linear warm-up from 0.
    pub warmup_steps: u64,
    /// First step of the linear decay to 0.
    pub decay_start: u64,
    /// Seed of initialisation and shuffling.
    pub seed: u64,
    /// A checkpoint whose weights training starts from, where it does.
    pub init: Option<PathBuf>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Which code computes a step.
    pub engine: Engine,
    /// Whether the run names its engine; where it does not, the reference engine takes the place
    /// of one that does not compute its tensors.
    pub names_engine: bool,
    /// Rows whose batch × n_features buffers are held at a time.
    pub micro_batch: usize,
    /// Arithmetic of dense products.
    pub precision: Precision,
    /// Whether to reproduce the published code's defects.
    pub parity: Parity,
    /// Steps between two lines of `metrics.jsonl`.
    pub log_every: u64,
    /// Steps between two checkpoints; 0 writes none but that of an interruption.
    pub checkpoint_every: u64,
    /// Checkpoints kept while the run lasts, the newest.
    pub keep_checkpoints: usize,
}

impl RunConfig {
    /// Checks every value and decides every default.
    ///
    /// # Errors
    /// [`Error::Value`] for the first value out of range.
    pub fn check(&self) -> Result<CheckedRun> {
        let mut settings = self.clone();
        let RunConfig { data, sae, architecture, training } = &mut settings;
        let n_features = sae.n_features;
        if n_features == 0 {
            return Err(Error::value("sae.n_features", "at least 1", 0));
        }
        data.check()?;
        self.check_target()?;
        training.check()?;
        let checked = CheckedTraining::new(training, n_features, architecture);
        training.device.clone_from(&checked.device);
        training.lr = Some(checked.lr);
        training.decay_start = Some(checked.decay_start);
        architecture.settings_mut().fill_in(&checked);
        architecture.settings().check(n_features, &checked)?;
        Ok(CheckedRun {
            data: data.clone(),
            sae: sae.clone(),
            recipe: architecture.settings().recipe(n_features, &checked),
            training: checked,
            settings,
        })
    }
}

impl CheckedTraining {
    fn new(written: &TrainingConfig, n_features: usize, architecture: &ArchitectureConfig) -> Self {
        let &TrainingConfig { steps, batch_size, warmup_steps, .. } = written;
        let device = match written.device.as_str() {
            "cuda" => "cuda:0",
            named => named,
        };
        let precision = written.precision.unwrap_or(Precision::F32);
        let default_engine = Engine::default_of(architecture, device, precision);
        Self {
            steps,
            batch_size,
            lr: written.lr.unwrap_or_else(|| 2e-4 / (n_features as f64 / 16384.0).sqrt()),
            warmup_steps,
            decay_start: written.decay_start.unwrap_or((steps - steps / 5).max(warmup_steps)),
            seed: written.seed,
            init: written.init.clone(),
            device: device.into(),
            engine: written.engine.unwrap_or(default_engine),
            names_engine: written.engine.is_some(),
            micro_batch: written.micro_batch.unwrap_or(batch_size),
            precision,
            parity: written.parity,
            log_every: written.log_every,
            checkpoint_every: written.checkpoint_every,
            keep_checkpoints: written.keep_checkpoints,
        }
    }
}

impl Engine {
    /// Whether it computes, in f32, an architecture with these settings.
    #[must_use]
    pub fn computes(
        self,
        architecture: &ArchitectureConfig,
        device: &str,
        precision: Precision,
    ) -> bool {
        match self {
            Self::Reference => true,
            Self::Fast => {
                let is_short = precision == Precision::Bf16;
                device == "cpu" && !is_short && architecture.settings().has_fast_engine()
            }
        }
    }

    /// The engine of a run that names none.
    pub(crate) fn default_of(
        architecture: &ArchitectureConfig,
        device: &str,
        precision: Precision,
    ) -> Self {
        if Self::Fast.computes(architecture, device, precision) {
            Self::Fast
        } else {
            Self::Reference
        }
    }
}

impl CheckedRun {
    /// What the run was written as, with every default that depends on the rest of it filled in:
    /// what `run.toml` and results say.
    #[must_use]
    pub const fn settings(&self) -> &RunConfig {
        &self.settings
    }

    /// The code of its model, which reads activations of this dimension.
    #[must_use]
    pub fn code(&self, d_model: usize) -> Code {
        let architecture = &self.settings.architecture;
        architecture.code(d_model, self.sae.n_features, self.training.parity)
    }

    /// The name of its architecture.
    #[must_use]
    pub const fn architecture(&self) -> &'static str {
        self.settings.architecture.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{architectures, run};

    #[test]
    fn cuda_is_the_first_of_its_devices() {
        for (device, decided) in [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")] {
            let run = run(&format!("'training.device' = '{device}'"));
            assert_eq!(run.training.device, decided);
            assert_eq!(run.settings().training.device, decided);
        }
    }

    #[test]
    fn decay_begins_no_sooner_than_the_warm_up_ends() {
        for (warmup_steps, decay_start) in [(0, 80), (80, 80), (95, 95), (100, 100)] {
            let run = run(&format!("'training.warmup_steps' = {warmup_steps}"));
            assert_eq!(run.training.decay_start, decay_start);
            assert_eq!(run.settings().check().unwrap(), run);
        }
    }

    #[test]
    fn the_fast_engine_is_that_of_sparse_codes_on_the_cpu() {
        for (more, engine) in [
            ("", Engine::Fast),
            ("'training.device' = 'cuda:0'", Engine::Reference),
            ("'training.precision' = 'bf16'", Engine::Reference),
            ("'training.engine' = 'reference'", Engine::Reference),
            ("architecture = { name = 'gated', l1_penalty = 0.1 }", Engine::Reference),
            ("architecture = { name = 'soft', k = 4, k_estimator = 'shared' }", Engine::Reference),
        ] {
            let run = run(more);
            assert_eq!(run.training.engine, engine, "{more}");
            assert_eq!(run.training.names_engine, more.contains("engine"), "{more}");
        }
    }

    #[test]
    fn settings_that_are_filled_in_decide_the_same() {
        for architecture in architectures() {
            for parity in [Parity::None, Parity::Official] {
                let mut written = run("").settings().clone();
                written.architecture = architecture.clone();
                written.training.parity = parity;
                let once = written.check().unwrap();
                assert_eq!(once.settings().check().unwrap(), once, "{}", architecture.name());
                assert_eq!(once.architecture(), once.code(16).name());
            }
        }
    }

    #[test]
    fn what_is_left_open_is_decided() {
        let soft = "architecture = { name = 'soft', k = 8, hard_steps = 10, k_anneal_steps = 5 }";
        let soft_recipe = |more: &str| match run(&format!("{soft}\n{more}")).recipe {
            Recipe::Soft(recipe) => recipe,
            other => panic!("{other:?}"),
        };
        let ours = soft_recipe("");
        assert_eq!((ours.k_max, ours.k_gradient_window, ours.hard_from), (32.0, 2, 90));
        assert_eq!((ours.k.first, ours.alpha_first), (None, ours.alpha_start));
        let official = soft_recipe("'training.parity' = 'official'");
        assert_eq!((official.k_max, official.k_gradient_window), (16.0, 0));
        assert_eq!((official.k.first, official.hard_from), (Some(8), 91));
        let Recipe::TopK(topk) = run("").recipe else { panic!("no TopK") };
        assert_eq!(topk.threshold_start_step, Some(10));
        assert_eq!(topk.prefixes, [(64, 1.0)]);
    }
}

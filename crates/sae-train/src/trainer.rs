//! The trainer: one place that steps, whatever the architecture and the engine.

use std::path::Path;

use sae_config::{CheckedRun, Precision};
use sae_data::Ports;
use sae_models::{
    InitRng, ModelConfig, Normalizer, Role, Sae, TrainedOn, init_ports, load_checkpoint, rebuild,
};
use tch::{Device, Kind, Tensor};
use tch_autograd::read;

use crate::device::{run_device, tf32};
use crate::engine::{self, Batch, Engine, FirstFault};
use crate::geometric_median::geometric_median;
use crate::optimizer::Decoder;
use crate::profile::Profile;
use crate::report::Step;
use crate::rules::{Pair, rule, starts_at_median};
use crate::state::TrainerState;
use crate::{Error, Result};

/// How far the norms of a decoder's rows may be from 1 for the sake of rounding, bfloat16's too.
const UNIT_NORM_TOLERANCE: f64 = 1e-2;

/// A model in training.
pub struct Trainer {
    state: TrainerState,
    engine: Box<dyn Engine>,
    /// Whether products may round their factors to TF32; none on the CPU, which has none.
    tf32: Option<bool>,
}

impl Trainer {
    /// A new model of dimension `d_model`, initialised from the seed of `config`, to be trained
    /// in `kind` (f32 or f64).
    ///
    /// # Errors
    /// A configuration that does not fit `d_model`, or a device that is not there.
    pub fn new(
        config: CheckedRun,
        d_model: usize,
        normalizer: &Normalizer,
        kind: Kind,
    ) -> Result<Self> {
        Self::for_ports(config, (d_model, normalizer).into(), kind)
    }

    /// As [`Trainer::new`], with the dimension and the normaliser of each port: a transcoder where
    /// there is a target.
    ///
    /// # Errors
    /// A configuration that does not fit the dimensions, or a device that is not there.
    pub fn for_ports(
        config: CheckedRun,
        ports: Ports<(usize, &Normalizer)>,
        kind: Kind,
    ) -> Result<Self> {
        let device = run_device(&config)?;
        let Ports { input: (d_model, normalizer), target } = ports;
        let model = ModelConfig {
            d_model,
            d_out: target.map(|(dimension, _)| dimension),
            n_features: config.sae.n_features,
            normalization: normalizer.normalization(),
            code: config.code(d_model),
        };
        let mut rng = InitRng::new(config.training.seed);
        let normalizers = (normalizer, target.map(|(_, normalizer)| normalizer));
        let sae = init_ports(model, normalizers, &mut rng, kind, device)?;
        Self::of(TrainerState::new(config, sae))
    }

    /// A new training in f32 of the model in the folder `init`, whose weights and normalisation it
    /// starts from.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, or of another architecture, size or normalisation than
    /// `config` asks for; a device that is not there.
    pub fn from_checkpoint(
        config: CheckedRun,
        dimensions: Ports<usize>,
        init: &Path,
    ) -> Result<Self> {
        let device = run_device(&config)?;
        let sae = load_checkpoint(init, device)?;
        let theirs = sae.config();
        let wrong = |what, expected: String, got: String| {
            Err(Error::Init { path: init.into(), what, expected, got })
        };
        let (ours, name) = (config.architecture(), theirs.code.name());
        if ours != name {
            return wrong("architecture", ours.into(), name.into());
        }
        for (what, expected, got) in [
            ("d_model", dimensions.input, theirs.d_model),
            ("n_features", config.sae.n_features, theirs.n_features),
        ] {
            if expected != got {
                return wrong(what, expected.to_string(), got.to_string());
            }
        }
        if dimensions.target != theirs.d_out {
            let told = |d_out: Option<usize>| {
                d_out.map_or("none: it rebuilds its input".into(), |d| format!("{d}"))
            };
            return wrong("d_out", told(dimensions.target), told(theirs.d_out));
        }
        if config.sae.normalization != theirs.normalization {
            let expected = format!("{:?}, as `sae.normalization` says", config.sae.normalization);
            return wrong("normalization", expected, format!("{:?}", theirs.normalization));
        }
        let model = ModelConfig { code: config.code(dimensions.input), ..theirs.clone() };
        let sae = rebuild(&sae, model, Kind::Float, device).map_err(|e| e.in_file(init))?;
        if rule(&config, &sae).optimizer().decoder == Decoder::UnitNorm {
            let w_dec = &sae.parameters[Role::DecoderWeight];
            let norms = w_dec.norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
            let (least, most) = (read::number(&norms.min()), read::number(&norms.max()));
            if (least - 1.0).abs().max((most - 1.0).abs()) > UNIT_NORM_TOLERANCE {
                let expected = "rows of norm 1, which training keeps them at".into();
                let got = format!("norms from {least:.4} to {most:.4}");
                return wrong("decoder.weight", expected, got);
            }
        }
        Self::of(TrainerState::new(config, sae))
    }

    /// Goes on with the training that [`Trainer::save`] wrote into `dir`.
    ///
    /// # Errors
    /// A file that is absent or damaged, by name.
    pub fn load(dir: &Path, device: Device) -> Result<Self> {
        Self::load_for(dir, Self::saved_config(dir)?, device)
    }

    /// The configuration of the training that [`Trainer::save`] wrote into `dir`.
    pub(crate) fn saved_config(dir: &Path) -> Result<CheckedRun> {
        TrainerState::config(dir)
    }

    /// Goes on with the training in `dir`, with a configuration that may differ in what is still to
    /// come.
    pub(crate) fn load_for(dir: &Path, config: CheckedRun, device: Device) -> Result<Self> {
        let (state, engine) = TrainerState::load(dir, config, device)?;
        let mut trainer = Self::of(state)?;
        trainer.engine.restore(&engine)?;
        Ok(trainer)
    }

    fn of(mut state: TrainerState) -> Result<Self> {
        let precision = state.config.training.precision;
        if precision == Precision::Bf16 {
            state.sae.parameters.products_in = Some(Kind::BFloat16);
        }
        let engine = engine::start(&state.config, &state.sae)?;
        let tf32 = tf32(&state.config.training, state.sae.device());
        Ok(Self { state, engine, tf32 })
    }

    /// Writes everything that the next step depends on into the folder `dir`.
    ///
    /// # Errors
    /// A file that cannot be written, by name; a loss that was not finite.
    pub fn save(&self, dir: &Path) -> Result<()> {
        self.engine.first_fault().map_or(Ok(()), FirstFault::check)?;
        self.state.save(self.engine.save(), dir)
    }

    /// Takes one step on raw activations that are rebuilt themselves.
    ///
    /// # Shapes
    /// x `[batch, d_model]`, of any float kind and on any device.
    ///
    /// # Errors
    /// A wrong shape, a transcoder; a loss that is not finite (on a GPU it is seen when the step is
    /// read).
    pub fn step(&mut self, x: &Tensor) -> Result<Step> {
        self.step_on(x.into())
    }

    /// Takes one step on raw activations, and what a transcoder is to rebuild from them.
    ///
    /// # Shapes
    /// Input `[batch, d_model]`, target `[batch, d_out]`, of any float kind and on any device.
    ///
    /// # Errors
    /// A wrong shape, a target without a transcoder or the other way round; a loss that is not
    /// finite (on a GPU it is seen when the step is read).
    pub fn step_on(&mut self, rows: Ports<&Tensor>) -> Result<Step> {
        let sae = &self.state.sae;
        check_shapes(&sae.config, rows)?;
        if let Some(allow) = self.tf32 {
            // libtorch has one setting a process.
            tch_autograd::allow_tf32(allow)?;
        }
        let ours = |rows: &Tensor, normalizer: &Normalizer| {
            let rows = rows.to_kind(sae.kind()).to_device(sae.device());
            tch::no_grad(|| normalizer.normalize(&rows)).0
        };
        let x = ours(rows.input, &sae.normalizer);
        let target = rows.target.map(|target| ours(target, sae.output_normalizer()));
        let target = target.as_ref().unwrap_or(&x);
        let lr = self.state.lr();
        let TrainerState { config, sae, history, step } = &mut self.state;
        let parameters = &mut sae.parameters;
        let is_new = *step == 0 && config.training.init.is_none();
        if is_new && starts_at_median(&config.recipe) {
            parameters[Role::DecoderBias] = geometric_median(target);
        }
        let rows = Pair { x: &x, target };
        let batch = Batch { rows, step: *step, lr };
        let facts = self.engine.step(parameters, history, &batch)?;
        let fault = self.engine.first_fault().map(FirstFault::alias);
        let step = Step::new(*step, lr, facts, &history.dead, fault);
        self.state.step += 1;
        Ok(step)
    }

    /// The model as it is now.
    #[must_use]
    pub fn sae(&self) -> &Sae {
        &self.state.sae
    }

    /// Records what the model is trained on.
    pub fn set_origin(&mut self, origin: TrainedOn) {
        self.state.sae.trained_on = origin;
    }

    /// Where the time of the steps went, where the engine measures it.
    #[must_use]
    pub fn profile(&self) -> Option<&Profile> {
        self.engine.profile()
    }

    /// The run.
    #[must_use]
    pub const fn config(&self) -> &CheckedRun {
        &self.state.config
    }

    /// Steps done.
    #[must_use]
    pub const fn steps_done(&self) -> u64 {
        self.state.step
    }
}

/// Checks that there are rows, of the model's dimensions, and a target where it rebuilds one.
fn check_shapes(config: &ModelConfig, rows: Ports<&Tensor>) -> Result<()> {
    let n_rows = rows.input.size().first().copied().unwrap_or(0);
    let wrong = |name: &str, expected: String, got: Vec<i64>| {
        Err(sae_models::Error::Shape { name: name.into(), expected, got }.into())
    };
    let x = rows.input.size();
    if x.len() != 2 || n_rows == 0 || x[1] != config.d_model as i64 {
        return wrong("x", format!("[batch, {}]", config.d_model), x);
    }
    match (config.d_out, rows.target.map(Tensor::size)) {
        (None, None) => Ok(()),
        (Some(d), Some(target)) if target == [n_rows, d as i64] => Ok(()),
        (Some(d), target) => {
            wrong("target", format!("[{n_rows}, {d}]"), target.unwrap_or_default())
        }
        (None, Some(target)) => wrong("target", "none: x is rebuilt".into(), target),
    }
}

//! The trainer: one place that steps, whatever the architecture and the engine.

use std::cell::Cell;
use std::path::Path;

use sae_config::{Precision, RunConfig};
use sae_models::{InitRng, ModelConfig, Normalizer, Sae, init};
use tch::{Device, Kind, Tensor};

use crate::engine::{ReferenceEngine, StepEngine};
use crate::fast::{self, FastEngine, Profile};
use crate::report::Step;
use crate::state::TrainerState;
use crate::{Error, Result};

/// A model in training.
pub struct Trainer {
    state: TrainerState,
    engine: Box<dyn StepEngine>,
    /// The step after which the model was last brought up to date.
    published: Cell<u64>,
}

impl Trainer {
    /// A new model of dimension `d_model`, initialised from the seed of `config`, to be trained
    /// in `kind` (f32 or f64).
    ///
    /// # Errors
    /// A configuration that does not fit `d_model`, or a device that is not there.
    pub fn new(
        config: RunConfig,
        d_model: usize,
        normalizer: &Normalizer,
        kind: Kind,
    ) -> Result<Self> {
        let config = config.resolve()?;
        let device = device(&config.training.device)?;
        let model = ModelConfig {
            d_model,
            n_features: config.sae.n_features,
            normalization: normalizer.normalization(),
            parity: config.training.parity,
            architecture: config.architecture.clone(),
        };
        let mut rng = InitRng::new(config.training.seed);
        let sae = init(model, normalizer, &mut rng, kind, device)?;
        Self::of(TrainerState::new(config, sae))
    }

    /// Goes on with the training that [`Trainer::save`] wrote into `dir`.
    ///
    /// # Errors
    /// A file that is absent or damaged, by name.
    pub fn load(dir: &Path, device: Device) -> Result<Self> {
        let (state, engine) = TrainerState::load(dir, device)?;
        let mut trainer = Self::of(state)?;
        trainer.engine.restore(&engine)?;
        Ok(trainer)
    }

    fn of(mut state: TrainerState) -> Result<Self> {
        let fast = fast::chosen(&state.config, state.sae.base())?;
        if state.config.training.precision == Some(Precision::Bf16) {
            state.sae.base_mut().weights.products_in = Some(Kind::BFloat16);
        }
        let engine: Box<dyn StepEngine> = if fast {
            Box::new(FastEngine::new(&state)?)
        } else {
            Box::new(ReferenceEngine::new(&state.config, state.sae.as_ref())?)
        };
        Ok(Self { state, engine, published: Cell::new(0) })
    }

    /// Writes everything that the next step depends on into the folder `dir`.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub fn save(&self, dir: &Path) -> Result<()> {
        self.publish();
        self.state.save(self.engine.save(), dir)
    }

    /// Takes one step on raw activations.
    ///
    /// # Shapes
    /// x `[batch, d_model]`, of any float kind and on any device.
    ///
    /// # Errors
    /// A wrong shape; a loss that is not finite (on a GPU it is seen when the step is read).
    pub fn step(&mut self, x: &Tensor) -> Result<Step> {
        let base = self.state.sae.base();
        let (size, width) = (x.size(), base.config.d_model);
        if size.len() != 2 || size[0] == 0 || size[1] != width as i64 {
            let expected = format!("[batch, {width}]");
            return Err(sae_models::Error::Shape { name: "x".into(), expected, got: size }.into());
        }
        let x = x.to_kind(base.kind()).to_device(base.device());
        let (x, _) = tch::no_grad(|| base.normalizer.normalize(&x));
        let lr = self.state.lr();
        let loss = self.engine.step(&mut self.state, &x)?;
        let step = Step::new(self.state.step, lr, loss, &self.state.dead);
        self.state.step += 1;
        Ok(step)
    }

    /// The model as it is now.
    #[must_use]
    pub fn sae(&self) -> &dyn Sae {
        self.publish();
        self.state.sae.as_ref()
    }

    /// Where the time of the steps went, where the engine measures it.
    #[must_use]
    pub fn profile(&self) -> Option<&Profile> {
        self.engine.profile()
    }

    fn publish(&self) {
        if self.published.replace(self.state.step) != self.state.step {
            self.engine.publish(&self.state);
        }
    }

    /// The resolved configuration.
    #[must_use]
    pub const fn config(&self) -> &RunConfig {
        &self.state.config
    }

    /// Steps done.
    #[must_use]
    pub const fn steps_done(&self) -> u64 {
        self.state.step
    }
}

/// The device that a configuration names.
pub(crate) fn device(name: &str) -> Result<Device> {
    tch_autograd::device(name).map_err(|error| {
        let key = "training.device";
        Error::Config(sae_config::Error::value(key, "a device that is there", error))
    })
}

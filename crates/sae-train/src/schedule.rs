//! What changes from step to step: learning rate, penalty warm-up, annealed k and α.

use sae_config::{CheckedTraining, KTarget};
use sae_models::ModelConfig;

/// Factor of the learning rate at `step`: linear from 0 over the warm-up, 1, then linear to 0
/// from the start of the decay.
pub(crate) fn lr_factor(training: &CheckedTraining, step: u64) -> f64 {
    if step < training.warmup_steps {
        step as f64 / training.warmup_steps as f64
    } else if step >= training.decay_start {
        (training.steps - step.min(training.steps)) as f64
            / (training.steps - training.decay_start) as f64
    } else {
        1.0
    }
}

/// Factor of a sparsity penalty that is warmed up over `warmup_steps`.
pub(crate) fn sparsity_scale(warmup_steps: u64, step: u64) -> f64 {
    if warmup_steps == 0 { 1.0 } else { (step as f64 / warmup_steps as f64).min(1.0) }
}

/// A value that falls linearly, and is updated after each step: step 0 sees `first`, step s > 0
/// the line at (s − 1)/steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anneal {
    pub(crate) first: f64,
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) steps: u64,
}

impl Anneal {
    /// The k that training aims at, which falls from d_model.
    pub(crate) fn of_k(target: &KTarget, model: &ModelConfig) -> Self {
        let end = target.k as f64;
        let start = (model.d_model as f64).max(end).min(model.n_features as f64);
        let first = target.first.map_or(start, |first| first as f64);
        Self { first, start, end, steps: target.anneal_steps }
    }

    pub(crate) fn at(&self, step: u64) -> f64 {
        if self.steps == 0 {
            return self.end;
        }
        if step == 0 {
            return self.first;
        }
        let ratio = (step - 1).min(self.steps) as f64 / self.steps as f64;
        self.start * (1.0 - ratio) + self.end * ratio
    }
}

#[cfg(test)]
mod tests {
    use super::{Anneal, lr_factor, sparsity_scale};

    fn training(text: &str) -> sae_config::CheckedTraining {
        let text = format!(
            "data.store = ''\nsae.n_features = 8\narchitecture = {{ name = 'topk', k = 2 }}\n\
             [training]\n{text}"
        );
        let config: sae_config::RunConfig = toml::from_str(&text).unwrap();
        config.check().unwrap().training
    }

    #[test]
    fn the_learning_rate_rises_stays_and_falls() {
        let t = training("steps = 24\nbatch_size = 1\nwarmup_steps = 4\ndecay_start = 16");
        assert_eq!(
            [0, 1, 4, 15, 16, 20].map(|s| lr_factor(&t, s)),
            [0.0, 0.25, 1.0, 1.0, 1.0, 0.5]
        );
        assert_eq!(lr_factor(&t, 24), 0.0);
        let flat = training("steps = 24\nbatch_size = 1\ndecay_start = 24");
        assert_eq!([0, 23].map(|s| lr_factor(&flat, s)), [1.0, 1.0]);
    }

    #[test]
    fn annealing_starts_after_the_first_step_and_ends_in_time() {
        let k = Anneal { first: 6.0, start: 16.0, end: 6.0, steps: 5 };
        assert_eq!([0, 1, 2, 6, 7].map(|s| k.at(s)), [6.0, 16.0, 14.0, 6.0, 6.0]);
        assert_eq!(Anneal { steps: 0, ..k }.at(0), 6.0);
    }

    #[test]
    fn penalties_warm_up() {
        assert_eq!([0, 2, 4, 9].map(|s| sparsity_scale(4, s)), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(sparsity_scale(0, 0), 1.0);
    }
}

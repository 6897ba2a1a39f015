//! A run up to a rung of successive halving.

use crate::{ArchitectureConfig, Error, Recipe, Result, RunConfig};

/// A run as it is trained up to a rung: its first `steps` steps are those of the whole run.
#[must_use]
pub fn run_at_rung(run: &RunConfig, steps: u64) -> RunConfig {
    let mut run = run.clone();
    if steps < run.training.steps {
        run.training.steps = steps;
        run.training.decay_start = run.training.decay_start.map(|start| start.min(steps));
        if let ArchitectureConfig::Soft(soft) = &mut run.architecture {
            soft.hard_steps = 0;
        }
    }
    run
}

/// Refuses runs whose first `steps` steps are not those of a run of that length, by the key that
/// the difference comes from.
pub(super) fn can_stop(run: &RunConfig, steps: u64) -> Result<()> {
    let training = &run.training;
    if training.checkpoint_every == 0 {
        let expected = "at least 1, since runs that are halved go on from a checkpoint";
        return Err(Error::value("training.checkpoint_every", expected, 0));
    }
    if let Some(start) = training.decay_start.filter(|start| *start < steps) {
        let expected = format!("at least {steps}, since the rate of the whole run does not fall");
        return Err(Error::value("training.decay_start", expected, start));
    }
    match run.check()?.recipe {
        Recipe::Soft(_) => {
            if let ArchitectureConfig::Soft(soft) = &run.architecture
                && soft.hard_steps > training.steps - steps
            {
                let expected = format!("at most {}, after all rungs", training.steps - steps);
                return Err(Error::value("architecture.hard_steps", expected, soft.hard_steps));
            }
        }
        Recipe::PAnneal(_) => {
            let expected = "one whose first steps do not depend on the length of the run";
            return Err(Error::value("architecture.name", expected, run.architecture.name()));
        }
        Recipe::TopK(_)
        | Recipe::JumpRelu(_)
        | Recipe::Gated(_)
        | Recipe::Standard(_)
        | Recipe::StandardApril(_) => {}
    }
    // What lasts longer than the rung is refused as it is in a run of that length.
    run_at_rung(run, steps).check().map(drop)
}

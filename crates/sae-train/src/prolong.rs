//! Runs that are made longer or shorter: allowed where no step that was taken would be different.

use std::path::PathBuf;

use sae_config::{CheckedRun, Recipe, RunConfig, difference};

use crate::Error;
use crate::rules::update_steps;
use crate::schedule::lr_factor;

/// Settings that a schedule is made of: they may differ as long as the steps taken do not.
pub(crate) const OF_LENGTH: [&str; 4] = [
    "training.steps",
    "training.decay_start",
    "architecture.hard_steps",
    "architecture.threshold_start_step",
];

/// The run `written`, to go on with a training of `theirs`: settings whose default follows from the
/// length and that took effect early keep the value they had, unless they are written.
pub(crate) fn checked_after(
    written: &RunConfig,
    theirs: &CheckedRun,
) -> sae_config::Result<CheckedRun> {
    let mut config = written.clone();
    if let Some(ours) = config.architecture.threshold_start_step() {
        *ours = ours.or_else(|| threshold_start(&theirs.recipe));
    }
    config.check()
}

/// Why `ours` cannot go on from step `step` of `theirs`, which was to have `taken` steps: `because`
/// has taken effect by then. Of one length, they are different runs.
pub(crate) fn refusal(
    path: PathBuf,
    (ours, theirs): (&CheckedRun, &CheckedRun),
    taken: u64,
    step: u64,
    because: &'static str,
) -> Error {
    let steps = ours.training.steps;
    match difference(ours, theirs, &[]).filter(|_| taken == steps) {
        Some((what, expected, got)) => Error::OtherRun { path, what, expected, got },
        None => Error::OtherLength { path, taken, steps, step, because },
    }
}

/// The setting under which a step before `done` differs between two runs.
pub(crate) fn difference_before(done: u64, a: &CheckedRun, b: &CheckedRun) -> Option<&'static str> {
    let lr = |run: &CheckedRun, step: u64| lr_factor(&run.training, step);
    if (0..done).any(|step| lr(a, step) != lr(b, step)) {
        return Some("training.decay_start");
    }
    let differs = |a: u64, b: u64| a != b && a.min(b) < done;
    match (&a.recipe, &b.recipe) {
        (Recipe::Soft(soft), Recipe::Soft(other)) if differs(soft.hard_from, other.hard_from) => {
            return Some("architecture.hard_steps");
        }
        (Recipe::PAnneal(p), Recipe::PAnneal(other)) => {
            let taken = |steps: Vec<u64>| -> Vec<u64> {
                steps.into_iter().filter(|step| *step < done).collect()
            };
            if taken(update_steps(p, &a.training)) != taken(update_steps(other, &b.training)) {
                return Some("training.steps");
            }
        }
        _ => {}
    }
    let start = |run: &CheckedRun| threshold_start(&run.recipe).unwrap_or(0);
    // The threshold is tracked after that step.
    differs(start(a).saturating_add(1), start(b).saturating_add(1))
        .then_some("architecture.threshold_start_step")
}

/// The number of steps from which on the length of the run shapes them: up to there, a longer run
/// goes on from a state of this one.
pub(crate) fn free_of_length(config: &CheckedRun) -> u64 {
    let training = &config.training;
    let mut free = training.decay_start;
    match &config.recipe {
        Recipe::Soft(soft) => free = free.min(soft.hard_from),
        Recipe::PAnneal(p) => {
            free = free.min(update_steps(p, training).get(1).copied().unwrap_or(free));
        }
        Recipe::TopK(_)
        | Recipe::JumpRelu(_)
        | Recipe::Gated(_)
        | Recipe::Standard(_)
        | Recipe::StandardApril(_) => {}
    }
    free.min(training.steps)
}

/// The step after which a threshold is tracked, of architectures that have one.
fn threshold_start(recipe: &Recipe) -> Option<u64> {
    match recipe {
        Recipe::TopK(c) => c.threshold_start_step,
        Recipe::Soft(_)
        | Recipe::JumpRelu(_)
        | Recipe::Gated(_)
        | Recipe::Standard(_)
        | Recipe::StandardApril(_)
        | Recipe::PAnneal(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of so many steps.
    fn run(steps: u64, training: &str, architecture: &str) -> CheckedRun {
        let text = format!(
            "data.store = ''\nsae.n_features = 24\narchitecture = {{ {architecture} }}\n\
             [training]\nsteps = {steps}\nbatch_size = 4\n{training}"
        );
        let config: RunConfig = toml::from_str(&text).unwrap();
        config.check().unwrap()
    }

    /// The most steps up to which two runs are the same.
    fn same_for(a: &CheckedRun, b: &CheckedRun) -> u64 {
        (0..).find(|done| difference_before(done + 1, a, b).is_some()).unwrap()
    }

    #[test]
    fn runs_are_the_same_until_something_of_their_length_takes_effect() {
        let topk = "name = 'topk', k = 3, threshold_start_step = 5";
        let soft = |hard: u64| format!("name = 'soft', k = 3, hard_steps = {hard}");
        let p = "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 4, \
                 n_sparsity_updates = 5";
        let flat = |steps: u64| format!("decay_start = {steps}");
        // The first step of a decay has the full rate.
        assert_eq!(same_for(&run(20, "", topk), &run(40, "", topk)), 17);
        assert_eq!(
            same_for(&run(20, &flat(20), topk), &run(40, &flat(40), topk)),
            20,
            "all its steps"
        );
        let hard = |steps: u64| run(steps, &flat(steps), &soft(6));
        assert_eq!(same_for(&hard(20), &hard(40)), 14);
        assert_eq!(same_for(&run(20, &flat(20), p), &run(40, &flat(40), p)), 8);
        let derived = |steps: u64| run(steps, &flat(steps), "name = 'topk', k = 3");
        assert_eq!(same_for(&derived(20), &derived(40)), 3);
        let kept = checked_after(
            &toml::from_str(
                "data.store = ''\nsae.n_features = 24\narchitecture = { name = 'topk', k = 3 }\n\
                 training = { steps = 40, batch_size = 4, decay_start = 40 }",
            )
            .unwrap(),
            &derived(20),
        );
        assert_eq!(same_for(&derived(20), &kept.unwrap()), 20, "all its steps");
    }

    #[test]
    fn a_state_that_is_free_of_the_length_can_be_gone_on_from() {
        let topk = "name = 'topk', k = 3, threshold_start_step = 5";
        let soft = "name = 'soft', k = 3, hard_steps = 6";
        let p = "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 4";
        for (training, architecture, expected) in [
            ("", topk, 16),
            ("decay_start = 20", topk, 20),
            ("warmup_steps = 18", topk, 18),
            ("", soft, 14),
            ("", p, 5),
        ] {
            let short = run(20, training, architecture);
            let free = free_of_length(&short);
            assert_eq!(free, expected, "{training} {architecture}");
            let more = training.replace("20", "50");
            let long = run(50, &more, architecture);
            assert_eq!(difference_before(free, &short, &long), None, "{training} {architecture}");
        }
    }
}

//! Runs that are made longer than they were.

use std::path::Path;

use sae_config::RunConfig;
use sae_train::Error;

use super::ARCHITECTURES;
use crate::support::{config, log, states, train, write_store};

/// Longer runs, with schedules that do not depend on the length until the end or until a decay.
#[test]
fn a_run_made_longer_ends_with_the_bits_of_the_longer_run() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    // The threshold starts where the shorter run had it, as its run.toml says.
    let threshold = "name = 'batch_topk', k = 3";
    let cases = ARCHITECTURES.iter().copied().chain([threshold]);
    for (i, architecture) in cases.enumerate() {
        for decays in [false, true] {
            let run = |steps: u64| {
                let decay = if decays { String::new() } else { format!("decay_start = {steps}\n") };
                let more = format!("{decay}checkpoint_every = 2");
                let mut config = config(&store, architecture, &more);
                config.training.steps = steps;
                config
            };
            let name = format!("{i} {decays}");
            let (long, whole) = (dir.path().join(&name), dir.path().join(format!("{name} whole")));
            train(&run(20), &long, false, u64::MAX).unwrap();
            let short = weights(&long);
            let kept = states(&long);
            assert_eq!(kept.len(), 1, "{architecture}: the state to go on from is kept");
            let summary = train(&run(40), &long, true, u64::MAX).unwrap();
            assert_eq!(summary.resumed_at, Some(kept[0].0), "{architecture}");
            let as_resolved = RunConfig::read(&long.join("run.toml")).unwrap();
            train(&as_resolved, &whole, false, u64::MAX).unwrap();
            assert_eq!(weights(&whole), weights(&long), "{name}: {architecture}");
            let moved = std::fs::read(long.join("checkpoint-20/sae.safetensors")).unwrap();
            assert!(moved == short, "{name}: the shorter run's model is kept");
            // The last step of the shorter run was logged, as every last one is.
            let mut lines = log(&long);
            lines.retain(|line| line.step != 19);
            assert_eq!(log(&whole), lines, "{name}: {architecture}");
            assert_eq!(lines.last().unwrap().step, 39);
            // Again, it is the run that has ended.
            assert!(train(&run(40), &long, true, u64::MAX).unwrap().last.is_none());
        }
    }
}

fn weights(out: &Path) -> Vec<u8> {
    std::fs::read(out.join("checkpoint/sae.safetensors")).unwrap()
}

#[test]
fn another_length_that_would_change_steps_taken_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    let out = dir.path().join("run");
    let run = |steps: u64, more: &str| {
        let mut config = config(&store, ARCHITECTURES[0], more);
        config.training.steps = steps;
        config
    };
    // No state is kept, so that the one of the decay is all there is.
    train(&run(20, "checkpoint_every = 0"), &out, false, u64::MAX).unwrap();
    let before = weights(&out);
    for (steps, more) in [(40, ""), (10, ""), (40, "decay_start = 40")] {
        let error = train(&run(steps, more), &out, true, u64::MAX).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::OtherLength { taken: 20, .. }), "{message}");
        assert!(message.contains("`training.steps`: expected 20"), "{message}");
        assert!(message.contains("training.init"), "{message}");
    }
    assert_eq!(weights(&out), before, "a refusal changes nothing");

    // Of the same length, what differs is told.
    let other = run(20, "decay_start = 18");
    let message = train(&other, &out, true, u64::MAX).unwrap_err().to_string();
    assert!(message.contains("`training.decay_start`: expected 18, got 16"), "{message}");

    // Interrupted in its decay, and no earlier state is there.
    let stopped = dir.path().join("stopped");
    train(&run(20, ""), &stopped, false, 18).unwrap_err();
    let message = train(&run(40, ""), &stopped, true, u64::MAX).unwrap_err().to_string();
    assert!(message.contains("`training.decay_start` of that length"), "{message}");
    let message = train(&run(17, ""), &stopped, true, u64::MAX).unwrap_err().to_string();
    assert!(message.contains("got 17: by step 18"), "{message}");
    let message = train(&other, &stopped, true, u64::MAX).unwrap_err().to_string();
    assert!(message.contains("`training.decay_start`: expected 18, got 16"), "{message}");
    // The run itself goes on.
    train(&run(20, ""), &stopped, true, u64::MAX).unwrap();
    assert_eq!(weights(&stopped), before);
}

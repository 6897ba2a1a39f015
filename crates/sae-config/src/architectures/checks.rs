//! What is wrong with settings, by the key.

use std::fmt::Display;

use crate::{AuxKConfig, CheckedTraining, Error, Result};

pub(super) fn check(
    key: &str,
    fine: bool,
    expected: impl Into<String>,
    got: impl Display,
) -> Result<()> {
    if fine { Ok(()) } else { Err(Error::value(format!("architecture.{key}"), expected, got)) }
}

pub(super) fn at_most_all_steps(key: &str, steps: u64, training: &CheckedTraining) -> Result<()> {
    let expected = format!("at most training.steps = {}", training.steps);
    check(key, steps <= training.steps, expected, steps)
}

pub(super) fn before_the_end(key: &str, step: u64, training: &CheckedTraining) -> Result<()> {
    let expected = format!("less than training.steps = {}", training.steps);
    check(key, step < training.steps, expected, step)
}

pub(super) fn positive(key: &str, value: f64) -> Result<()> {
    check(key, value > 0.0 && value.is_finite(), "a positive number", value)
}

pub(super) fn not_negative(key: &str, value: f64) -> Result<()> {
    check(key, value >= 0.0 && value.is_finite(), "0 or a positive number", value)
}

pub(super) fn check_auxk(c: &AuxKConfig) -> Result<()> {
    not_negative("auxk.weight", c.weight)?;
    check("auxk.dead_after_rows", c.dead_after_rows > 0, "at least 1", c.dead_after_rows)
}

/// Checks a number of active features, which is asked for under `key`.
pub(super) fn check_target(key: &str, l0: f64, n_features: usize) -> Result<()> {
    let expected = format!("more than 0 and less than sae.n_features = {n_features}");
    check(key, l0 > 0.0 && l0 < n_features as f64, expected, l0)
}

/// Checks the groups of a dictionary, and gives the features of the smallest.
pub(super) fn check_groups(
    fractions: &[f64],
    weights: Option<&[f64]>,
    n_features: usize,
) -> Result<f64> {
    for fraction in fractions {
        let fine = *fraction > 0.0 && *fraction <= 1.0;
        check("group_fractions", fine, "numbers above 0 and at most 1", fraction)?;
    }
    let sum: f64 = fractions.iter().sum();
    let fine = (sum - 1.0).abs() < 1e-6;
    check("group_fractions", fine, "numbers that sum to 1", format!("a sum of {sum}"))?;
    if let Some(weights) = weights {
        let expected = format!("{} weights, one a group", fractions.len());
        check("group_weights", weights.len() == fractions.len(), expected, weights.len())?;
        weights.iter().try_for_each(|weight| not_negative("group_weights", *weight))?;
    }
    let smallest = fractions.iter().fold(1.0, |a: f64, b| a.min(*b)) * n_features as f64;
    let smallest = (smallest + 1e-9).floor();
    let expected = format!("groups of at least one of sae.n_features = {n_features}");
    check("group_fractions", smallest >= 1.0, expected, format!("{fractions:?}"))?;
    Ok(smallest)
}

pub(super) fn check_penalty(
    l1_penalty: f64,
    warmup_steps: u64,
    training: &CheckedTraining,
) -> Result<()> {
    not_negative("l1_penalty", l1_penalty)?;
    at_most_all_steps("sparsity_warmup_steps", warmup_steps, training)
}

#[cfg(test)]
mod tests {
    use crate::RunConfig;

    /// Settings of an architecture, and what their refusal says.
    const CASES: &[(&str, &str)] = &[
        (
            "name = \"topk\"\nk = 64",
            "k`: expected more than 0 and less than sae.n_features = 64, got 64",
        ),
        ("name = \"topk\"\nk = 0", "k`: expected more than 0 and"),
        ("name = \"jumprelu\"\ntarget_l0 = 64.0", "target_l0`: expected more than 0 and less"),
        (
            "name = \"topk\"\nk = 6\nk_anneal_steps = 101",
            "k_anneal_steps`: expected at most training.steps = 100, got 101",
        ),
        ("name = \"batch_topk\"\nk = 6\nthreshold_start_step = 100", "threshold_start_step`"),
        ("name = \"topk\"\nk = 6\nauxk.weight = -1.0", "auxk.weight`"),
        ("name = \"topk\"\nk = 6\nauxk.dead_after_rows = 0", "auxk.dead_after_rows`"),
        (
            "name = \"matryoshka_batch_topk\"\nk = 2\ngroup_fractions = [0.5, 0.4]",
            "group_fractions`: expected numbers that sum to 1, got a sum of 0.9",
        ),
        (
            "name = \"matryoshka_batch_topk\"\nk = 2\ngroup_fractions = [1.5, -0.5]",
            "group_fractions`",
        ),
        (
            "name = \"matryoshka_batch_topk\"\nk = 9\ngroup_fractions = [0.125, 0.875]",
            "k`: expected at most the smallest group, 8 features, got 9",
        ),
        ("name = \"matryoshka_batch_topk\"\nk = 2\ngroup_weights = [1.0]", "group_weights`"),
        (
            "name = \"soft\"\nk = 6\ngroup_fractions = [0.01, 0.99]",
            "group_fractions`: expected groups of at least one of sae.n_features = 64, got \
             [0.01, 0.99]",
        ),
        ("name = \"soft\"\nk = 6\nk_max = 6.0", "k_max`: expected more than k = 6, got 6"),
        ("name = \"soft\"\nk = 6\nk_min = 7.0", "k_min`"),
        ("name = \"soft\"\nk = 6\nk_first = 65", "k_first`"),
        ("name = \"soft\"\nk = 6\nalpha = 0.0", "alpha`: expected a positive number, got 0"),
        ("name = \"soft\"\nk = 6\nalpha_anneal_steps = 101", "alpha_anneal_steps`"),
        ("name = \"soft\"\nk = 6\nhard_steps = 101", "hard_steps`"),
        ("name = \"soft\"\nk = 6\nk_estimator_lr = 0.0", "k_estimator_lr`"),
        (
            "name = \"soft\"\nk = 6\nk_gradient_window = 4\nalpha_anneal_steps = 9",
            "k_gradient_window`: expected 0, since alpha_anneal_steps is not 0, got 4",
        ),
        (
            "name = \"soft\"\nk = 6\nk_estimator = { narrow = { width = 65 } }",
            "width`: expected from 1 to sae.n_features = 64, got 65",
        ),
        ("name = \"soft\"\nk = 6\nk_estimator = { low_rank = { rank = 0 } }", "rank`"),
        ("name = \"jumprelu\"\ntarget_l0 = 6.0\nbandwidth = 0.0", "bandwidth`"),
        ("name = \"gated\"\nl1_penalty = -0.1", "l1_penalty`"),
        ("name = \"standard\"\nl1_penalty = 0.1\nresample_steps = 0", "resample_steps`"),
        (
            "name = \"standard\"\nl1_penalty = 0.1\nsparsity_warmup_steps = 101",
            "sparsity_warmup_steps`",
        ),
        (
            "name = \"p_anneal\"\ninitial_sparsity_penalty = 0.1\nanneal_start = 100",
            "anneal_start`",
        ),
        (
            "name = \"p_anneal\"\ninitial_sparsity_penalty = 0.1\nanneal_start = 9\np_start = 0.1",
            "p_start`",
        ),
    ];

    /// The message for a run of 100 steps and 64 features with this architecture.
    fn refusal(architecture: &str) -> String {
        let text = format!(
            "data.store = \"s\"\nsae.n_features = 64\n[training]\nsteps = 100\nbatch_size = 8\n\
             [architecture]\n{architecture}"
        );
        let config: RunConfig = toml::from_str(&text).unwrap();
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn every_bad_setting_is_named() {
        for (architecture, expected) in CASES {
            let message = refusal(architecture);
            assert!(message.starts_with("`architecture."), "{architecture}: {message}");
            assert!(message.contains(expected), "{architecture}: {message}");
        }
    }
}

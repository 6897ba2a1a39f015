//! What is wrong with the settings of an architecture, by the key.

use std::fmt::Display;

use crate::{
    ArchitectureConfig, AuxKConfig, CheckedTraining, Error, JumpReluConfig, KEstimator,
    MatryoshkaBatchTopKConfig, PAnnealConfig, Result, SoftConfig, StandardConfig, TopKConfig,
};

/// Checks the settings of an architecture against the dictionary and the length of the run.
pub(crate) fn check_architecture(
    architecture: &ArchitectureConfig,
    n_features: usize,
    training: &CheckedTraining,
) -> Result<()> {
    if let Some(l0) = architecture.target_l0() {
        let jumps = matches!(architecture, ArchitectureConfig::JumpRelu(_));
        let key = if jumps { "target_l0" } else { "k" };
        let expected = format!("more than 0 and less than sae.n_features = {n_features}");
        check(key, l0 > 0.0 && l0 < n_features as f64, expected, l0)?;
    }
    match architecture {
        ArchitectureConfig::TopK(c) | ArchitectureConfig::BatchTopK(c) => topk(c, training),
        ArchitectureConfig::AbsTopK(c) => {
            at_most_all_steps("k_anneal_steps", c.k_anneal_steps, training)?;
            auxk(&c.auxk)
        }
        ArchitectureConfig::MatryoshkaBatchTopK(c) => matryoshka(c, n_features, training),
        ArchitectureConfig::Soft(c) => soft(c, n_features, training),
        ArchitectureConfig::JumpRelu(c) => jumprelu(c, training),
        ArchitectureConfig::Gated(c) => penalty(c.l1_penalty, c.sparsity_warmup_steps, training),
        ArchitectureConfig::Standard(c) => standard(c, training),
        ArchitectureConfig::StandardApril(c) => {
            penalty(c.l1_penalty, c.sparsity_warmup_steps, training)
        }
        ArchitectureConfig::PAnneal(c) => p_anneal(c, training),
    }
}

fn check(key: &str, fine: bool, expected: impl Into<String>, got: impl Display) -> Result<()> {
    if fine { Ok(()) } else { Err(Error::value(format!("architecture.{key}"), expected, got)) }
}

fn at_most_all_steps(key: &str, steps: u64, training: &CheckedTraining) -> Result<()> {
    let expected = format!("at most training.steps = {}", training.steps);
    check(key, steps <= training.steps, expected, steps)
}

fn before_the_end(key: &str, step: u64, training: &CheckedTraining) -> Result<()> {
    let expected = format!("less than training.steps = {}", training.steps);
    check(key, step < training.steps, expected, step)
}

fn positive(key: &str, value: f64) -> Result<()> {
    check(key, value > 0.0 && value.is_finite(), "a positive number", value)
}

fn not_negative(key: &str, value: f64) -> Result<()> {
    check(key, value >= 0.0 && value.is_finite(), "0 or a positive number", value)
}

fn auxk(c: &AuxKConfig) -> Result<()> {
    not_negative("auxk.weight", c.weight)?;
    check("auxk.dead_after_rows", c.dead_after_rows > 0, "at least 1", c.dead_after_rows)
}

fn topk(c: &TopKConfig, training: &CheckedTraining) -> Result<()> {
    at_most_all_steps("k_anneal_steps", c.k_anneal_steps, training)?;
    let start = c.threshold_start(training.steps);
    before_the_end("threshold_start_step", start, training)?;
    auxk(&c.auxk)
}

fn matryoshka(
    c: &MatryoshkaBatchTopKConfig,
    n_features: usize,
    training: &CheckedTraining,
) -> Result<()> {
    at_most_all_steps("k_anneal_steps", c.k_anneal_steps, training)?;
    let start = c.threshold_start(training.steps);
    before_the_end("threshold_start_step", start, training)?;
    auxk(&c.auxk)?;
    let smallest = groups(&c.group_fractions, c.group_weights.as_deref(), n_features)?;
    let expected = format!("at most the smallest group, {smallest} features");
    check("k", c.k as f64 <= smallest, expected, c.k)
}

/// Checks the groups of a dictionary, and gives the features of the smallest.
fn groups(fractions: &[f64], weights: Option<&[f64]>, n_features: usize) -> Result<f64> {
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

fn soft(c: &SoftConfig, n_features: usize, training: &CheckedTraining) -> Result<()> {
    let features = n_features as f64;
    check("k", n_features > 2, "a dictionary of at least 3 features", n_features)?;
    let k_max = c.k_bound(training.parity);
    let expected = format!("more than k = {}", c.k);
    check("k_max", k_max > c.k as f64 && k_max.is_finite(), expected, k_max)?;
    let expected = format!("more than 0, at most k = {} and less than {}", c.k, features - 1.0);
    let most = (c.k as f64).min(features - 1.0);
    check("k_min", c.k_min > 0.0 && c.k_min <= most, expected, c.k_min)?;
    if let Some(first) = c.k_first {
        let expected = format!("from 1 to sae.n_features = {n_features}");
        check("k_first", (1..=n_features).contains(&first), expected, first)?;
    }
    positive("alpha", c.alpha)?;
    positive("alpha_start", c.alpha_start)?;
    positive("alpha_first", c.alpha_first.unwrap_or(1.0))?;
    not_negative("k_loss_weight", c.k_loss_weight)?;
    positive("k_loss_beta", c.k_loss_beta)?;
    let window = c.window(training.parity);
    let is_sharp = window == 0 || c.alpha_anneal_steps == 0;
    check("k_gradient_window", is_sharp, "0, since alpha_anneal_steps is not 0", window)?;
    positive("k_estimator_lr", c.k_estimator_lr)?;
    at_most_all_steps("alpha_anneal_steps", c.alpha_anneal_steps, training)?;
    at_most_all_steps("k_anneal_steps", c.k_anneal_steps, training)?;
    at_most_all_steps("hard_steps", c.hard_steps, training)?;
    match c.k_estimator {
        KEstimator::Narrow { width: Some(width) } => {
            let expected = format!("from 1 to sae.n_features = {n_features}");
            let fine = (1..=n_features).contains(&width);
            check("k_estimator.narrow.width", fine, expected, width)?;
        }
        KEstimator::LowRank { rank } => {
            check("k_estimator.low_rank.rank", rank > 0, "at least 1", rank)?;
        }
        KEstimator::Mlp | KEstimator::Narrow { width: None } | KEstimator::Shared => {}
    }
    groups(&c.group_fractions, c.group_weights.as_deref(), n_features)?;
    auxk(&c.auxk)
}

fn jumprelu(c: &JumpReluConfig, training: &CheckedTraining) -> Result<()> {
    not_negative("sparsity_weight", c.sparsity_weight)?;
    positive("bandwidth", c.bandwidth)?;
    at_most_all_steps("sparsity_warmup_steps", c.sparsity_warmup_steps, training)
}

fn penalty(l1_penalty: f64, warmup_steps: u64, training: &CheckedTraining) -> Result<()> {
    not_negative("l1_penalty", l1_penalty)?;
    at_most_all_steps("sparsity_warmup_steps", warmup_steps, training)
}

fn standard(c: &StandardConfig, training: &CheckedTraining) -> Result<()> {
    let fine = c.resample_steps.is_none_or(|steps| steps > 0);
    check("resample_steps", fine, "at least 1", c.resample_steps.unwrap_or(0))?;
    penalty(c.l1_penalty, c.sparsity_warmup_steps, training)
}

fn p_anneal(c: &PAnnealConfig, training: &CheckedTraining) -> Result<()> {
    not_negative("initial_sparsity_penalty", c.initial_sparsity_penalty)?;
    at_most_all_steps("sparsity_warmup_steps", c.sparsity_warmup_steps, training)?;
    positive("p_end", c.p_end)?;
    let expected = format!("at least p_end = {}", c.p_end);
    check("p_start", c.p_start >= c.p_end && c.p_start.is_finite(), expected, c.p_start)?;
    before_the_end("anneal_start", c.anneal_start, training)?;
    check("n_sparsity_updates", c.n_sparsity_updates > 0, "at least 1", c.n_sparsity_updates)?;
    let length = c.sparsity_queue_length;
    check("sparsity_queue_length", length > 0, "at least 1", length)
}

#[cfg(test)]
mod tests {
    use crate::RunConfig;

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
        let cases = [
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
        for (architecture, expected) in cases {
            let message = refusal(architecture);
            assert!(message.starts_with("`architecture."), "{architecture}: {message}");
            assert!(message.contains(expected), "{architecture}: {message}");
        }
    }
}

//! Successive halving: of runs that compete, the best go on to more steps.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::keys::{dotted_key, run_keys};
use super::rung::can_stop;
use super::{Metric, SweepConfig, SweepPoint};
use crate::{Error, Result};

/// Successive halving (`[halving]`): all runs are trained to a part of their steps, the best of
/// those that are comparable go on, and so forth; only the last ones get all their steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HalvingConfig {
    /// What decides; the highest is the best.
    #[serde(default)]
    pub metric: Metric,
    /// One of so many runs goes on, with so many times the steps.
    #[serde(default = "default_eta")]
    pub eta: u64,
    /// Number of rungs, the last one with all steps; this or `min_steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rungs: Option<u32>,
    /// The fewest steps of the first rung; this or `rungs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_steps: Option<u64>,
    /// Keys of which runs that compete have equal values; default the architecture and what decides
    /// how sparse it is (`k`, `target_l0` or the penalty).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Vec<String>>,
}

const fn default_eta() -> u64 {
    3
}

impl HalvingConfig {
    /// Checks what does not depend on the runs.
    pub(super) fn check(&self, sweep: &SweepConfig) -> Result<()> {
        if self.eta < 2 {
            return Err(Error::value("halving.eta", "at least 2", self.eta));
        }
        if self.rungs.is_some() == self.min_steps.is_some() {
            let got = if self.rungs.is_some() { "both" } else { "neither" };
            return Err(Error::value("halving", "one of `rungs` and `min_steps`", got));
        }
        if let Some(rungs) = self.rungs.filter(|rungs| *rungs < 2) {
            return Err(Error::value("halving.rungs", "at least 2", rungs));
        }
        if self.min_steps == Some(0) {
            return Err(Error::value("halving.min_steps", "at least 1", 0));
        }
        let (is_measured, without) = match self.metric {
            Metric::R2 | Metric::Fve => return Ok(()),
            Metric::CeRecovered | Metric::KlRecovered => {
                (sweep.host.is_some() && sweep.images.is_none(), "a host that reads texts")
            }
            Metric::EmbeddingRecovered => (sweep.images.is_some(), "a host that sees images"),
            Metric::MatchedCosine => (sweep.host.is_none(), "known features"),
        };
        if is_measured {
            return Ok(());
        }
        let expected = format!("a metric that is measured without {without}, such as `r2`");
        Err(Error::value("halving.metric", expected, self.metric.name()))
    }

    /// The steps of each rung of runs of so many steps, the last one with all of them.
    ///
    /// # Errors
    /// Rungs without steps, or one alone.
    pub fn lengths(&self, steps: u64) -> Result<Vec<u64>> {
        let mut lengths = vec![steps];
        let is_wanted = |n: u32, length: u64| match (self.rungs, self.min_steps) {
            (Some(rungs), _) => n < rungs,
            (_, least) => length >= least.unwrap_or(1),
        };
        loop {
            let n = lengths.len() as u32;
            let length = steps / self.eta.saturating_pow(n);
            if !is_wanted(n, length) {
                break;
            }
            if length == 0 {
                let expected = format!("at most {n}, since training.steps = {steps}");
                return Err(Error::value("halving.rungs", expected, self.rungs.unwrap_or(n + 1)));
            }
            lengths.push(length);
        }
        if lengths.len() == 1 {
            let most = steps / self.eta;
            let expected = format!("at most {most}, which is training.steps/eta");
            let got = self.min_steps.unwrap_or(0);
            return Err(Error::value("halving.min_steps", expected, got));
        }
        lengths.reverse();
        Ok(lengths)
    }

    /// What runs that compete have in common.
    #[must_use]
    pub fn group_of(&self, point: &SweepPoint) -> String {
        let Some(keys) = &self.group else {
            let architecture = &point.config.architecture;
            let (key, value) = architecture.sparsity();
            let key = key.rsplit('.').next().unwrap_or(key);
            let hook =
                point.config.data.hook().map_or(String::new(), |hook| format!(" hook={hook}"));
            return format!("{} {key}={value}{hook}", architecture.name());
        };
        let of = |key: &String| {
            let value = point.value(key).unwrap_or_default();
            format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        keys.iter().map(of).collect::<Vec<_>>().join(" ")
    }

    /// Checks that each run can be stopped at each rung, to go on as if it had not.
    pub(super) fn check_runs(&self, points: &[SweepPoint]) -> Result<()> {
        for key in self.group.iter().flatten() {
            let is_known = run_keys().contains(&dotted_key(key));
            if !is_known && !points.iter().any(|point| point.value(key).is_some()) {
                return Err(Error::value("halving.group", "keys that some run has", key));
            }
        }
        let steps: BTreeSet<_> = points.iter().map(|point| point.config.training.steps).collect();
        if let (Some(least), Some(most)) = (steps.first(), steps.last())
            && least != most
        {
            let got = format!("{least} and {most}");
            return Err(Error::value("training.steps", "one length where runs are halved", got));
        }
        let Some(steps) = steps.first() else { return Ok(()) };
        let lengths = self.lengths(*steps)?;
        for point in points {
            for &length in &lengths[..lengths.len() - 1] {
                can_stop(&point.config, length).map_err(|e| Error::InRun {
                    run: format!("{point}, halved at {length} steps"),
                    source: Box::new(e),
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn halving(text: &str) -> HalvingConfig {
        toml::from_str(text).unwrap()
    }

    fn error(halving: &str, more: &str, architecture: &str, training: &str) -> String {
        let text = format!(
            "stores = {{ train = 'a', held_out = 'b' }}\nhalving = {{ {halving} }}\n{more}\n\
             [base]\nsae.n_features = 64\narchitecture = {{ {architecture} }}\n\
             training = {{ steps = 900, batch_size = 8{training} }}"
        );
        let sweep: SweepConfig = toml::from_str(&text).unwrap();
        let error = sweep.check().and_then(|()| sweep.points()).err();
        error.map_or_else(String::new, |e| e.to_string())
    }

    #[test]
    fn rungs_end_with_all_steps() {
        let lengths = |text: &str, steps: u64| halving(text).lengths(steps);
        assert_eq!(lengths("rungs = 3", 900).unwrap(), [100, 300, 900]);
        assert_eq!(lengths("min_steps = 100", 900).unwrap(), [100, 300, 900]);
        assert_eq!(lengths("min_steps = 101", 900).unwrap(), [300, 900]);
        assert_eq!(lengths("eta = 2\nrungs = 2", 7).unwrap(), [3, 7]);
        let error = lengths("rungs = 9", 900).unwrap_err().to_string();
        assert_eq!(error, "`halving.rungs`: expected at most 7, since training.steps = 900, got 9");
        let error = lengths("min_steps = 301", 900).unwrap_err().to_string();
        assert!(error.starts_with("`halving.min_steps`: expected at most 300"), "{error}");
    }

    #[test]
    fn what_cannot_be_halved_is_refused_by_key() {
        let (topk, soft) = ("name = 'topk', k = 4", "name = 'soft', k = 4");
        assert_eq!(error("rungs = 3", "", topk, ""), "");
        assert_eq!(error("rungs = 3", "", soft, ", warmup_steps = 100"), "");
        let gated = "name = 'gated', l1_penalty = 0.1, sparsity_warmup_steps = 101";
        let p = "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 4";
        for (halving, more, architecture, training, words) in [
            ("eta = 1, rungs = 2", "", topk, "", "`halving.eta`: expected at least 2, got 1"),
            ("eta = 2", "", topk, "", "`rungs` and `min_steps`, got neither"),
            ("rungs = 2, min_steps = 9", "", topk, "", "`min_steps`, got both"),
            ("rungs = 1", "", topk, "", "`halving.rungs`: expected at least 2, got 1"),
            ("min_steps = 0", "", topk, "", "`halving.min_steps`: expected at least 1, got 0"),
            ("rungs = 2, metric = 'ce_recovered'", "", topk, "", "`halving.metric`: expected"),
            (
                "rungs = 2, metric = 'embedding_recovered'",
                "",
                topk,
                "",
                "`halving.metric`: expected a metric that is measured without a host that sees",
            ),
            ("rungs = 2, group = ['kk']", "", topk, "", "`halving.group`: expected keys that some"),
            (
                "rungs = 2",
                "axes.steps = [900, 901]",
                topk,
                "",
                "`training.steps`: expected one length where runs are halved, got 900 and 901",
            ),
            ("rungs = 2", "", topk, ", checkpoint_every = 0", "`training.checkpoint_every`"),
            (
                "rungs = 3",
                "",
                topk,
                ", decay_start = 299",
                "base, halved at 300 steps`: `training.decay_start`: expected at least 300",
            ),
            ("rungs = 3", "", topk, ", warmup_steps = 101", "`training.warmup_steps`: expected at"),
            ("rungs = 3", "", gated, "", "`architecture.sparsity_warmup_steps`: expected at most"),
            (
                "rungs = 3",
                "",
                "name = 'soft', k = 4, hard_steps = 601",
                "",
                "`architecture.hard_steps`: expected at most 600, after all rungs, got 601",
            ),
            (
                "rungs = 3",
                "",
                "name = 'topk', k = 4, threshold_start_step = 100",
                "",
                "`architecture.threshold_start_step`: expected less than training.steps = 100",
            ),
            ("rungs = 3", "", p, "", "`architecture.name`: expected one whose first steps"),
        ] {
            let message = error(halving, more, architecture, training);
            assert!(message.contains(words), "{words}: {message}");
        }
    }

    #[test]
    fn runs_compete_within_their_architecture_and_sparsity() {
        let text = "stores = { train = 'a', held_out = 'b' }\nhalving.rungs = 2\n\
                    axes = { architecture = ['topk', 'batch_topk'], k = [4, 8], seed = [0, 1] }\n\
                    base = { sae.n_features = 64, training = { steps = 9, batch_size = 8 } }";
        let points = toml::from_str::<SweepConfig>(text).unwrap().points().unwrap();
        let groups = |halving: &str| -> Vec<String> {
            let halving = toml::from_str::<HalvingConfig>(halving).unwrap();
            let all: BTreeSet<_> = points.iter().map(|point| halving.group_of(point)).collect();
            all.into_iter().collect()
        };
        let expected = ["batch_topk k=4", "batch_topk k=8", "topk k=4", "topk k=8"];
        assert_eq!(groups(""), expected);
        assert_eq!(groups("group = ['k', 'seed']").len(), 4);
        assert_eq!(groups("group = ['architecture']").len(), 2);
        assert_eq!(groups("group = []"), [""]);
    }

    #[test]
    fn metrics_are_read_by_their_names() {
        for metric in Metric::ALL {
            let read = halving(&format!("metric = '{}'\nrungs = 2", metric.name()));
            assert_eq!(read.metric, metric);
        }
    }

    proptest! {
        #[test]
        fn rungs_grow_by_eta(steps in 2_u64..1_000_000, eta in 2_u64..6, rungs in 2_u32..6) {
            let all = halving(&format!("eta = {eta}\nrungs = {rungs}")).lengths(steps);
            prop_assume!(steps / eta.pow(rungs - 1) > 0);
            let all = all.unwrap();
            prop_assert_eq!(all.len(), rungs as usize);
            prop_assert_eq!(*all.last().unwrap(), steps);
            prop_assert!(all.windows(2).all(|pair| pair[0] == pair[1] / eta));
        }
    }
}

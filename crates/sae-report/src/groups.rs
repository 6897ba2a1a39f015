//! Runs that differ in nothing but their sparsity and seed, and what sets such groups apart.

use std::collections::{BTreeMap, BTreeSet};

use sae_config::{RunResult, RunStatus};
use serde::Serialize;

use crate::settings::{Settings, differing, short};

/// The groups of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Groups {
    /// The settings that differ between runs, as dotted keys in the order of the run file.
    pub keys: Vec<String>,
    /// Which of them set groups of one name apart.
    pub named: Vec<usize>,
    /// The value of each of them, by run; none where the run has no such setting.
    pub values: Vec<Vec<Option<String>>>,
    /// The groups, in the order of their first runs.
    pub groups: Vec<Group>,
    /// The group of each run.
    pub of_run: Vec<usize>,
}

/// Runs that differ in nothing but their sparsity and seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The variant of the sweep, or the architecture.
    pub base: String,
    /// What sets it apart from the other groups of that name, such as `lr=1e-3 batch_size=512`;
    /// empty where nothing does.
    pub rest: String,
    /// Its runs.
    pub runs: Vec<usize>,
}

impl Group {
    /// The name, which no other group of the sweep has.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.base, self.rest).trim_end().to_owned()
    }
}

/// What a setting is in a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Setting {
    /// Its architecture has no such setting, or it is left out.
    None,
    /// What follows from the other settings.
    Default,
    Value(String),
}

impl Groups {
    /// Groups runs by all their settings but sparsity and seed.
    ///
    /// A setting that follows from the others, such as a learning rate that goes with the size of
    /// the dictionary, sets nothing apart.
    #[must_use]
    pub fn of(runs: &[RunResult]) -> Self {
        let settings: Vec<_> = runs.iter().map(|run| Settings::of(&run.config)).collect();
        let keys = differing(&settings);
        let mut places: BTreeMap<(&str, Vec<Setting>), usize> = BTreeMap::new();
        let (mut groups, mut marks, mut of_run) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (run, settings)) in runs.iter().zip(&settings).enumerate() {
            let base = run.variant.as_deref().unwrap_or(run.config.architecture.name());
            let (sparsity, _) = run.config.architecture.sparsity();
            // A run that was stopped on its way has the steps that it had, and what goes with them.
            let is_part = run.evaluation.is_some() && run.status != RunStatus::Done;
            let setting = |key: &String| match settings.get(key) {
                _ if is_part && key == "architecture.hard_steps" => Setting::None,
                Some(_) if is_part && key == "training.decay_start" => Setting::Default,
                _ if key == sparsity || key == "training.seed" => Setting::None,
                None => Setting::None,
                Some(_) if settings.is_default(key) => Setting::Default,
                Some(value) => Setting::Value(value.into()),
            };
            let mark: Vec<Setting> = keys.iter().map(setting).collect();
            let at = *places.entry((base, mark.clone())).or_insert_with(|| {
                groups.push(Group { base: base.into(), rest: String::new(), runs: Vec::new() });
                marks.push(mark);
                groups.len() - 1
            });
            groups[at].runs.push(index);
            of_run.push(at);
        }
        let named = name(&keys, &settings, &mut groups, &marks);
        let value =
            |run: &Settings| keys.iter().map(|key| run.get(key).map(str::to_owned)).collect();
        let values = settings.iter().map(value).collect();
        Self { keys, named, values, groups, of_run }
    }
}

/// Names each group by the settings that differ among those of its base; gives those settings.
fn name(
    keys: &[String],
    settings: &[Settings],
    groups: &mut [Group],
    marks: &[Vec<Setting>],
) -> Vec<usize> {
    let mut firsts: BTreeMap<String, usize> = BTreeMap::new();
    let mut varying: BTreeSet<(usize, usize)> = BTreeSet::new();
    let first_of: Vec<usize> =
        (0..groups.len()).map(|at| *firsts.entry(groups[at].base.clone()).or_insert(at)).collect();
    for (at, &first) in first_of.iter().enumerate() {
        varying.extend(
            (0..keys.len()).filter(|&k| marks[at][k] != marks[first][k]).map(|k| (first, k)),
        );
    }
    let mut taken = BTreeSet::new();
    for (at, group) in groups.iter_mut().enumerate() {
        let mut rest = Vec::new();
        for (k, key) in keys.iter().enumerate() {
            let value = match &marks[at][k] {
                _ if !varying.contains(&(first_of[at], k)) => continue,
                Setting::None => continue,
                Setting::Value(value) => value.as_str(),
                Setting::Default => {
                    let values: BTreeSet<_> =
                        group.runs.iter().map(|&run| settings[run].get(key)).collect();
                    let only = values.first().copied().flatten();
                    only.filter(|_| values.len() == 1).unwrap_or("default")
                }
            };
            rest.push(format!("{}={value}", short(key)));
        }
        group.rest = rest.join(" ");
        // A variant may be named like another with its settings.
        let mut number = 1;
        while !taken.insert(group.name()) {
            number += 1;
            group.rest = [&rest[..], &[format!("#{number}")]].concat().join(" ");
        }
    }
    let named: BTreeSet<usize> = varying.into_iter().map(|(_, k)| k).collect();
    named.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{config, run};

    fn names(runs: &[RunResult]) -> Vec<String> {
        Groups::of(runs).groups.iter().map(Group::name).collect()
    }

    #[test]
    fn sparsity_and_seed_make_no_group_and_all_else_does() {
        let mut runs = Vec::new();
        for lr in ["1e-3", "3e-4"] {
            for batch_size in [32, 64] {
                for (k, seed) in [(4, 0), (8, 0), (4, 1)] {
                    runs.push(run(&format!(
                        "architecture.k = {k}\n[training]\nlr = {lr}\nbatch_size = {batch_size}\nseed = {seed}"
                    )));
                }
            }
        }
        let groups = Groups::of(&runs);
        assert_eq!(
            names(&runs),
            [
                "topk batch_size=32 lr=1e-3",
                "topk batch_size=64 lr=1e-3",
                "topk batch_size=32 lr=3e-4",
                "topk batch_size=64 lr=3e-4",
            ]
        );
        assert!(groups.groups.iter().all(|group| group.runs.len() == 3));
        let keys = ["architecture.k", "training.batch_size", "training.lr", "training.seed"];
        assert_eq!(groups.keys, keys);
        assert_eq!(groups.values[11], ["4", "64", "3e-4", "1"].map(|v| Some(v.to_owned())));
    }

    #[test]
    fn what_follows_from_another_setting_is_not_named() {
        let wide = |n: usize| run(&format!("architecture.k = 4\nsae.n_features = {n}"));
        assert_eq!(names(&[wide(64), wide(256)]), ["topk n_features=64", "topk n_features=256"]);
        // k_max and the gradient's window go with k.
        let soft = |k: usize| run(&format!("architecture = {{ name = 'soft', k = {k} }}"));
        assert_eq!(names(&[soft(4), soft(8), soft(16)]), ["soft"]);
        let bound = run("architecture = { name = 'soft', k = 8, k_max = 9.0 }");
        assert_eq!(names(&[soft(4), soft(8), bound]), ["soft k_max=default", "soft k_max=9"]);
    }

    #[test]
    fn runs_that_were_dropped_are_named_by_their_steps() {
        let evaluated = |more: &str| crate::tests::evaluated(run(more), 4.0, 0.5);
        let soft = "architecture = { name = 'soft', k = 4, hard_steps";
        let whole = evaluated(&format!("{soft} = 3 }}\n[training]\nsteps = 90"));
        let mut part =
            evaluated(&format!("{soft} = 0 }}\n[training]\nsteps = 30\ndecay_start = 30"));
        part.status = RunStatus::Dropped;
        assert_eq!(names(&[whole, part]), ["soft hard_steps=3 steps=90", "soft steps=30"]);
    }

    #[test]
    fn every_architecture_has_its_own_axis_of_sparsity() {
        for architecture in [
            "name = 'topk', k",
            "name = 'batch_topk', k",
            "name = 'matryoshka_batch_topk', k",
            "name = 'soft', k",
            "name = 'jumprelu', target_l0",
            "name = 'gated', l1_penalty",
            "name = 'standard', l1_penalty",
            "name = 'standard_april', l1_penalty",
            "name = 'p_anneal', anneal_start = 2, initial_sparsity_penalty",
        ] {
            let of = |value: usize| run(&format!("architecture = {{ {architecture} = {value} }}"));
            let groups = Groups::of(&[of(1), of(2)]);
            assert_eq!(groups.groups.len(), 1, "{architecture}");
            let (key, value) = of(2).config.architecture.sparsity();
            assert!(groups.keys.iter().any(|k| k == key) && value == 2.0, "{architecture}");
            assert!(groups.named.is_empty(), "{architecture}");
        }
    }

    #[test]
    fn a_variant_names_its_settings() {
        let variant = |name: &str, more: &str| RunResult {
            variant: Some(name.into()),
            ..run(&format!("architecture.k = 4\n{more}"))
        };
        let (low, high) = ("training.lr = 1e-4", "training.lr = 1e-2");
        assert_eq!(names(&[variant("low", low), variant("high", high)]), ["low", "high"]);
        let two = [variant("own", low), variant("own", high), variant("own lr=1e-4", "")];
        assert_eq!(names(&two), ["own lr=1e-4", "own lr=0.01", "own lr=1e-4 #2"]);
    }

    proptest! {
        #[test]
        fn no_two_groups_share_a_name_and_no_run_is_lost(
            picks in prop::collection::vec((0..3usize, 0..3usize, 0..2usize, 0..2usize, 0..2usize), 1..20),
        ) {
            let pick = |(architecture, lr, n_features, seed, k): (usize, usize, usize, usize, usize)| {
                let architecture = ["topk", "soft", "batch_topk"][architecture];
                let lr = ["", "lr = 1e-3", "lr = 0.0032"][lr];
                let n_features = [64, 256][n_features];
                let k = [4, 8][k];
                run(&format!(
                    "architecture = {{ name = '{architecture}', k = {k} }}\n\
                     sae.n_features = {n_features}\n[training]\nseed = {seed}\n{lr}"
                ))
            };
            let runs: Vec<_> = picks.into_iter().map(pick).collect();
            let groups = Groups::of(&runs);
            let names: BTreeSet<_> = groups.groups.iter().map(Group::name).collect();
            prop_assert_eq!(names.len(), groups.groups.len());
            let mut members: Vec<_> = groups.groups.iter().flat_map(|g| g.runs.clone()).collect();
            members.sort_unstable();
            prop_assert_eq!(members, (0..runs.len()).collect::<Vec<_>>());
            for (a, in_a) in runs.iter().zip(&groups.of_run) {
                for (b, in_b) in runs.iter().zip(&groups.of_run) {
                    let mut same = a.config.clone();
                    same.training.seed = b.config.training.seed;
                    let with_k = |k: f64| {
                        let name = same.architecture.name();
                        config(&format!(
                            "architecture = {{ name = '{name}', k = {k} }}\n\
                             sae.n_features = {}\n[training]\nseed = {}\nlr = {:e}",
                            same.sae.n_features, same.training.seed, same.training.lr.unwrap()
                        ))
                    };
                    let equal = with_k(b.config.architecture.sparsity().1) == b.config;
                    prop_assert_eq!(equal, in_a == in_b);
                }
            }
        }
    }
}

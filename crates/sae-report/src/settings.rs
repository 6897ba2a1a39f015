//! The settings of runs by dotted key, and which of them differ.

use std::collections::{BTreeMap, BTreeSet};

use sae_config::{Role, RunConfig};
use serde::Deserialize as _;
use toml::{Table, Value};

/// Whether a key shapes no result of runs that share their activations.
fn is_bookkeeping(key: &str) -> bool {
    matches!(Role::of(key), Role::Device | Role::Bookkeeping) || key == "data.store"
}

/// The settings of a run, with its defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    config: RunConfig,
    table: Table,
    /// Keys and values as text, in the order of the run file.
    all: Vec<(String, String)>,
}

impl Settings {
    /// Takes the settings that shape the result of a run.
    #[must_use]
    pub fn of(config: &RunConfig) -> Self {
        // A run file is a table of tables: always valid TOML.
        let table = Table::try_from(config).expect("a configuration is a table");
        let mut all = Vec::new();
        flatten("", &table, &mut all);
        all.retain(|(key, _)| !is_bookkeeping(key));
        Self { config: config.clone(), table, all }
    }

    /// Dotted keys and their values, in the order of the run file.
    #[must_use]
    pub fn all(&self) -> &[(String, String)] {
        &self.all
    }

    /// The value of a dotted key, so that equal texts are equal values.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Whether a value is what the run would have without it.
    #[must_use]
    pub fn is_default(&self, key: &str) -> bool {
        let mut table = self.table.clone();
        remove(&mut table, key)
            && RunConfig::deserialize(table)
                .ok()
                .and_then(|config| config.check().ok())
                .is_some_and(|run| *run.settings() == self.config)
    }
}

/// The keys whose values differ between runs, in the order of the run file.
///
/// A setting of an architecture is compared between runs of the architectures that have it.
#[must_use]
pub fn differing(runs: &[Settings]) -> Vec<String> {
    let mut keys: Vec<&str> = Vec::new();
    let mut values: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
    let mut owners: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for run in runs {
        for (key, value) in &run.all {
            let seen = values.entry(key).or_insert_with(|| {
                keys.push(key);
                BTreeSet::new()
            });
            seen.insert(Some(value));
            owners.entry(key).or_default().insert(run.config.architecture.name());
        }
    }
    for run in runs {
        let own: BTreeSet<&str> = run.all.iter().map(|(key, _)| key.as_str()).collect();
        for (key, owners) in &owners {
            let is_its =
                !is_of_an_architecture(key) || owners.contains(run.config.architecture.name());
            if is_its && !own.contains(key) {
                values.entry(key).or_default().insert(None);
            }
        }
    }
    // A key that only some runs have comes after those before it in its own run.
    let section = |key: &&str| SECTIONS.iter().position(|s| key.starts_with(s));
    keys.sort_by_key(section);
    keys.into_iter().filter(|key| values[key].len() > 1).map(str::to_owned).collect()
}

const SECTIONS: [&str; 4] = ["data.", "sae.", "architecture.", "training."];

fn is_of_an_architecture(key: &str) -> bool {
    key.starts_with("architecture.") && key != "architecture.name"
}

/// The short form of a dotted key, as sweep files take it.
#[must_use]
pub fn short(key: &str) -> &str {
    match key {
        "architecture.name" => "architecture",
        _ => key.split_once('.').map_or(key, |(_, rest)| rest),
    }
}

fn flatten(prefix: &str, table: &Table, all: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, all),
            plain => all.push((key, text(plain))),
        }
    }
}

/// A value as people write it: strings without quotes, numbers in their shortest form.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) => {
            let (plain, power) = (number.to_string(), format!("{number:e}"));
            if power.len() < plain.len() { power } else { plain }
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        Value::Table(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key} = {}", text(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Removes a dotted key; says whether it was there.
fn remove(table: &mut Table, key: &str) -> bool {
    match key.split_once('.') {
        None => table.remove(key).is_some(),
        Some((head, rest)) => match table.get_mut(head) {
            Some(Value::Table(inner)) => remove(inner, rest),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::config;

    fn keys(runs: &[&str]) -> Vec<String> {
        let settings: Vec<_> = runs.iter().map(|run| Settings::of(&config(run))).collect();
        differing(&settings)
    }

    #[test]
    fn what_differs_comes_in_the_order_of_the_run_file() {
        let (a, b) = ("architecture.k = 4", "architecture.k = 8\ntraining.seed = 3");
        assert_eq!(keys(&[a, a]), [""; 0]);
        assert_eq!(keys(&[a, b]), ["architecture.k", "training.seed"]);
        let device = "architecture.k = 4\ntraining.device = 'cuda:1'\ntraining.log_every = 7";
        assert_eq!(keys(&[a, device]), [""; 0]);
        let clipped = "architecture.k = 4\ntraining.micro_batch = 4";
        assert_eq!(keys(&[clipped, a]), ["training.micro_batch"]);
    }

    #[test]
    fn settings_of_one_architecture_differ_from_nothing_of_another() {
        let soft = "architecture = { name = 'soft', k = 4, hard_steps = 3 }";
        assert_eq!(keys(&["architecture.k = 4", soft]), ["architecture.name"]);
        let other = "architecture = { name = 'soft', k = 4, hard_steps = 4 }";
        let names = ["architecture.name", "architecture.hard_steps"];
        assert_eq!(keys(&["architecture.k = 4", soft, other]), names);
        // One that an architecture may leave out is compared with its absence.
        let standard =
            |more: &str| format!("architecture = {{ name = 'standard', l1_penalty = 0.1{more} }}");
        let (with, without) = (standard(", resample_steps = 5"), standard(""));
        assert_eq!(keys(&[&with, &without]), ["architecture.resample_steps"]);
    }

    #[test]
    fn defaults_that_follow_from_other_settings_are_known() {
        let settings = Settings::of(&config("architecture.k = 4"));
        for (key, is_default) in [
            ("training.lr", true),
            ("training.decay_start", true),
            ("training.steps", false),
            ("architecture.k", false),
            ("nothing.such", false),
        ] {
            assert_eq!(settings.is_default(key), is_default, "{key}");
        }
        let set = Settings::of(&config("architecture.k = 4\ntraining.lr = 0.5"));
        assert!(!set.is_default("training.lr"));
    }

    #[test]
    fn keys_are_shortened_as_sweep_files_take_them() {
        for (key, expected) in [
            ("architecture.name", "architecture"),
            ("architecture.auxk.weight", "auxk.weight"),
            ("training.lr", "lr"),
            ("plain", "plain"),
        ] {
            assert_eq!(short(key), expected);
        }
    }

    proptest! {
        #[test]
        fn numbers_are_short_and_read_back(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let written = text(&Value::Float(number));
            prop_assert_eq!(written.parse::<f64>().unwrap().to_bits(), number.to_bits());
            prop_assert!(written.len() <= number.to_string().len());
        }
    }
}

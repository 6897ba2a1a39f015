//! `--filter KEY=VALUE`: which runs of a sweep are wanted.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use sae_config::{SweepPoint, dotted_key, run_keys};
use serde_json::Value;

use crate::exit::usage;

/// Values that a message lists at most.
const MOST_VALUES: usize = 12;

/// The key that stands for the variant that a run is of.
const VARIANT: &str = "variant";

/// What stands for the value of a setting that is left out.
const ABSENT: &str = "none";

/// A key that is filtered by, and the values that are wanted.
struct Filter {
    /// As it was given.
    key: String,
    /// Place in a run file in JSON; none of `variant`.
    pointer: Option<String>,
    /// The values, and whether some run has them.
    wanted: Vec<(String, bool)>,
    /// Whether some run has the key.
    is_there: bool,
}

/// Which of the runs each filtered key lets through: those that have one of its values.
///
/// A key that no run has, and a value that no run has, are refused by name.
pub(super) fn select(filters: &[String], points: &[SweepPoint]) -> Result<Vec<bool>> {
    let mut filters = parse(filters)?;
    if filters.is_empty() {
        return Ok(vec![true; points.len()]);
    }
    let mut selected = Vec::with_capacity(points.len());
    for point in points {
        let run = serde_json::to_value(&point.config)?;
        // Each filter sees each run: values that no run has are told from those that others lack.
        let all = filters.iter_mut().map(|filter| filter.lets_through(point, &run));
        selected.push(all.fold(true, |so_far, lets| so_far & lets));
    }
    for filter in &filters {
        filter.check(points)?;
    }
    if !selected.contains(&true) {
        bail!(usage("--filter: expected values that one run has together, got none"));
    }
    Ok(selected)
}

fn parse(filters: &[String]) -> Result<Vec<Filter>> {
    let mut parsed: Vec<Filter> = Vec::new();
    for text in filters {
        let Some((key, value)) = text.split_once('=') else {
            bail!(usage(format!("--filter: expected KEY=VALUE, got `{text}`")));
        };
        let (key, wanted) = (key.trim(), (value.trim().to_owned(), false));
        let pointer = (key != VARIANT).then(|| format!("/{}", dotted_key(key).replace('.', "/")));
        match parsed.iter_mut().find(|filter| filter.pointer == pointer) {
            Some(filter) => filter.wanted.push(wanted),
            None => parsed.push(Filter {
                key: key.into(),
                pointer,
                wanted: vec![wanted],
                is_there: false,
            }),
        }
    }
    Ok(parsed)
}

impl Filter {
    /// The value of a run.
    fn value(&self, point: &SweepPoint, run: &Value) -> Option<Value> {
        match &self.pointer {
            None => point.variant.clone().map(Value::from),
            // A table is no setting.
            Some(pointer) => run.pointer(pointer).filter(|value| !value.is_object()).cloned(),
        }
    }

    fn lets_through(&mut self, point: &SweepPoint, run: &Value) -> bool {
        let value = self.value(point, run);
        self.is_there |= value.is_some();
        let value = value.unwrap_or_default();
        let mut lets = false;
        for (wanted, is_there) in &mut self.wanted {
            let is_it = equals(&value, wanted);
            *is_there |= is_it;
            lets |= is_it;
        }
        lets
    }

    /// Refuses what fits no run.
    fn check(&self, points: &[SweepPoint]) -> Result<()> {
        let key = &self.key;
        let is_key = self.is_there || run_keys().contains(&dotted_key(key));
        if !is_key {
            let near = near(key, points)?;
            bail!(usage(format!(
                "--filter: expected a key that a run of this sweep has, got `{key}`; near it: {}",
                near.join(", ")
            )));
        }
        let Some((wanted, _)) = self.wanted.iter().find(|(_, is_there)| !is_there) else {
            return Ok(());
        };
        let mut values: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        for point in points {
            let run = serde_json::to_value(&point.config)?;
            let text = text(&self.value(point, &run).unwrap_or_default());
            if seen.insert(text.clone()) {
                values.push(text);
            }
        }
        let more = match values.len().saturating_sub(MOST_VALUES) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        values.truncate(MOST_VALUES);
        bail!(usage(format!(
            "--filter: expected a value of `{key}` that some run has ({}{more}), got `{wanted}`",
            values.join(", ")
        )))
    }
}

/// Whether a value is the one that was typed.
fn equals(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(value) => value == wanted,
        Value::Number(value) => match (value.as_i64(), value.as_f64()) {
            (Some(value), _) if wanted.parse() == Ok(value) => true,
            (_, Some(value)) => wanted.parse() == Ok(value),
            _ => false,
        },
        other => text(other) == wanted,
    }
}

/// A value as one types it.
fn text(value: &Value) -> String {
    match value {
        Value::String(value) => value.clone(),
        Value::Null => ABSENT.into(),
        other => other.to_string(),
    }
}

/// The keys of the runs that are most like one that none has.
fn near(key: &str, points: &[SweepPoint]) -> Result<Vec<String>> {
    let mut keys: BTreeSet<String> = run_keys().into_iter().collect();
    let mut architectures = BTreeSet::new();
    for point in points {
        if architectures.insert(point.config.architecture.name()) {
            leaves("", &serde_json::to_value(&point.config)?, &mut keys);
        }
        if point.variant.is_some() {
            keys.insert(VARIANT.into());
        }
    }
    let short = |dotted: &str| {
        let name = dotted.split_once('.').map_or(dotted, |(_, name)| name);
        let name = if dotted == "architecture.name" { "architecture" } else { name };
        let is_short = dotted_key(name) == dotted;
        if is_short { name.to_owned() } else { dotted.to_owned() }
    };
    let mut keys: Vec<String> = keys.iter().map(|key| short(key)).collect();
    let bare = key.rsplit('.').next().unwrap_or(key);
    keys.sort_by_cached_key(|known| {
        let is_part = known.contains(bare) || (known.len() > 2 && bare.contains(known.as_str()));
        let last = known.rsplit('.').next().unwrap_or(known);
        (distance(bare, last).saturating_sub(3 * usize::from(is_part)), known.clone())
    });
    keys.truncate(5);
    Ok(keys)
}

/// The dotted keys of all values that are no tables.
fn leaves(key: &str, value: &Value, keys: &mut BTreeSet<String>) {
    let Value::Object(map) = value else {
        keys.insert(key.into());
        return;
    };
    for (name, value) in map {
        let dot = if key.is_empty() { "" } else { "." };
        leaves(&format!("{key}{dot}{name}"), value, keys);
    }
}

/// The least number of letters to insert, delete or replace that makes `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = before + usize::from(letter != *other);
            before = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use sae_config::SweepConfig;

    use super::*;

    fn points() -> Vec<SweepPoint> {
        let sweep: SweepConfig = toml::from_str(
            "stores = { train = 'a', held_out = 'b' }\n\
             axes = { architecture = ['topk', 'soft'], lr = [1e-3, 3e-4], seed = [0, 1] }\n\
             architectures = { topk.k = 4, soft.k = 4 }\n\
             base = { sae.n_features = 64, training = { steps = 9, batch_size = 8 } }\n\
             [[extra]]\nvariant = 'wide'\narchitecture = 'jumprelu'\nn_features = 128\n\
             target_l0 = 6",
        )
        .unwrap();
        sweep.points().unwrap()
    }

    fn count(filters: &[&str]) -> usize {
        let filters: Vec<_> = filters.iter().map(|filter| (*filter).to_owned()).collect();
        select(&filters, &points()).unwrap().into_iter().filter(|is_it| *is_it).count()
    }

    #[test]
    fn runs_are_selected_by_any_key() {
        for (filters, expected) in [
            (&[][..], 9),
            (&["lr=1e-3"], 4),
            (&["lr=0.001", "training.lr=3e-4"], 8),
            (&["architecture=soft", "seed=1"], 2),
            (&["architecture.name=soft", "hard_steps=0"], 4),
            (&["n_features=128"], 1),
            (&["variant=wide"], 1),
            (&["variant=none"], 8),
            (&["target_l0=6"], 1),
            (&["auxk.weight=0.03125"], 8),
            (&["precision=none"], 9),
        ] {
            assert_eq!(count(filters), expected, "{filters:?}");
        }
    }

    #[test]
    fn what_fits_no_run_is_named() {
        let error = |filters: &[&str]| {
            let filters: Vec<_> = filters.iter().map(|filter| (*filter).to_owned()).collect();
            select(&filters, &points()).unwrap_err().to_string()
        };
        for (filters, words) in [
            (&["k"][..], "expected KEY=VALUE, got `k`"),
            (&["ler=1"], "got `ler`; near it: lr,"),
            (&["n_feature=1"], "near it: n_features,"),
            (&["weight=1"], "near it: auxk.weight,"),
            (&["auxk=1"], "auxk.weight"),
            (&["variants=wide"], "near it: variant,"),
            (&["seed=7"], "a value of `seed` that some run has (0, 1), got `7`"),
            (&["seed=1", "seed=7"], "got `7`"),
            (&["target_l0=5"], "(none, 6"),
            (&["precision=bf16"], "(none), got `bf16`"),
            (&["k=4", "n_features=128"], "values that one run has together"),
        ] {
            let message = error(filters);
            assert!(message.contains(words), "{filters:?}: {message}");
        }
    }

    #[test]
    fn letters_that_differ_are_counted() {
        for (a, b, expected) in [("", "", 0), ("lr", "ler", 1), ("seed", "sed", 1), ("k", "", 1)] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

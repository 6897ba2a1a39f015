//! What runs vary along: axes, keys that vary together, variants and draws, each key in one of them.

use toml::{Table, Value};

use super::SweepConfig;
use super::keys::{dotted_key, overlap};
use crate::{Error, Result};

/// Keys and their values.
pub(super) type Settings = Vec<(String, Value)>;

/// The key in the table of an architecture that holds axes of its own.
pub(super) const OWN_AXES: &str = "axes";

/// Alternatives of which each run has one: the values of an axis, or of keys that vary together.
pub(super) struct Factor {
    /// Its keys as written, and where: `axes.k`.
    pub(super) keys: Vec<(String, String)>,
    pub(super) rows: Vec<Settings>,
}

impl Factor {
    /// The axes of a table that is called `place`; tables in it hold axes of dotted keys.
    pub(super) fn axes(place: &str, table: &Table) -> Result<Vec<Self>> {
        let lists = lists(place, table)?;
        let factors = lists.into_iter().map(|(key, path, values)| {
            let rows = values.iter().map(|value| vec![(key.clone(), value.clone())]).collect();
            Self { keys: vec![(key, path)], rows }
        });
        Ok(factors.collect())
    }

    /// Keys that vary together: their lists are of one length.
    fn zip(index: usize, table: &Table) -> Result<Self> {
        let place = format!("zip[{index}]");
        let lists = lists(&place, table)?;
        let Some((first, _, values)) = lists.first() else {
            return Err(Error::value(place, "lists of values by key", "none"));
        };
        if let Some((_, path, other)) = lists.iter().find(|(_, _, v)| v.len() != values.len()) {
            let expected = format!("{} values, as many as `{first}` has", values.len());
            return Err(Error::value(path, expected, other.len()));
        }
        let row = |n: usize| {
            lists.iter().map(|(key, _, values)| (key.clone(), values[n].clone())).collect()
        };
        let rows = (0..values.len()).map(row).collect();
        Ok(Self {
            keys: lists.iter().map(|(key, path, _)| (key.clone(), path.clone())).collect(),
            rows,
        })
    }
}

/// The lists of a table with their keys as written and their places.
fn lists(place: &str, table: &Table) -> Result<Vec<(String, String, Vec<Value>)>> {
    let mut found = Vec::new();
    let mut left: Vec<(String, &Value)> =
        table.iter().rev().map(|(key, value)| (key.clone(), value)).collect();
    while let Some((key, value)) = left.pop() {
        let path = format!("{place}.{key}");
        match value {
            Value::Array(values) if !values.is_empty() => found.push((key, path, values.clone())),
            // `training.lr = [...]` is a table to TOML.
            Value::Table(inner) if !inner.is_empty() => {
                left.extend(inner.iter().rev().map(|(k, v)| (format!("{key}.{k}"), v)));
            }
            _ => return Err(Error::value(path, "a list of at least one value", value)),
        }
    }
    Ok(found)
}

impl SweepConfig {
    /// What all runs vary along, in the order in which it varies, the last fastest.
    pub(super) fn factors(&self) -> Result<Vec<Factor>> {
        let mut factors = Factor::axes("axes", &self.axes)?;
        for (index, table) in self.zip.iter().enumerate() {
            factors.push(Factor::zip(index, table)?);
        }
        factors.extend(self.search.as_ref().map(super::SearchConfig::factor).transpose()?);
        let keys: Vec<_> = factors.iter().flat_map(|factor| &factor.keys).collect();
        for (at, (key, path)) in keys.iter().enumerate() {
            each_key_once(key, path, keys[..at].iter().copied())?;
        }
        Ok(factors)
    }

    /// The axes that the runs of one architecture have beyond those of all.
    pub(super) fn own_axes(&self, name: &str, of_all: &[Factor]) -> Result<Vec<Factor>> {
        let table = self.architectures.get(name);
        let place = format!("architectures.{name}");
        let axes = match table.and_then(|table| table.get(OWN_AXES)) {
            None => return Ok(Vec::new()),
            Some(Value::Table(axes)) => Factor::axes(&format!("{place}.{OWN_AXES}"), axes)?,
            Some(other) => {
                let path = format!("{place}.{OWN_AXES}");
                return Err(Error::value(path, "lists of values by key", other));
            }
        };
        let fixed = table.into_iter().flat_map(Table::keys).filter(|key| *key != OWN_AXES);
        let fixed: Vec<_> = fixed.map(|key| (key.clone(), format!("{place}.{key}"))).collect();
        let variants = self.variants.iter().flat_map(|(variant, settings)| {
            let keys = settings.as_table().into_iter().flat_map(Table::keys);
            keys.map(move |key| (key.clone(), format!("variants.{variant}.{key}")))
        });
        let variants: Vec<_> = variants.collect();
        let own: Vec<_> = axes.iter().flat_map(|factor| &factor.keys).collect();
        for (at, (key, path)) in own.iter().enumerate() {
            if dotted_key(key) == "architecture.name" {
                return Err(Error::value(path.as_str(), "other keys than `architecture`", key));
            }
            let of_all = of_all.iter().flat_map(|factor| &factor.keys);
            let others = of_all.chain(&fixed).chain(&variants).chain(own[..at].iter().copied());
            each_key_once(key, path, others)?;
        }
        Ok(axes)
    }

    /// The settings of each variant; a nameless one without settings where there are none.
    pub(super) fn variant_settings(
        &self,
        factors: &[Factor],
    ) -> Result<Vec<(Option<String>, Settings)>> {
        if self.variants.is_empty() {
            return Ok(vec![(None, Vec::new())]);
        }
        let settings = self.variants.iter().map(|(name, settings)| {
            if name.trim().is_empty() || name.chars().any(char::is_control) {
                return Err(Error::value(
                    "variants",
                    "names that can be read in a table",
                    format!("{name:?}"),
                ));
            }
            let path = || format!("variants.{name}");
            let Some(table) = settings.as_table() else {
                return Err(Error::value(path(), "a table of settings", settings));
            };
            for key in table.keys() {
                let mut axes = factors.iter().flat_map(|factor| &factor.keys);
                if let Some((_, axis)) =
                    axes.find(|(k, _)| overlap(&dotted_key(k), &dotted_key(key)))
                {
                    let got = format!("`{key}`, which is varied by `{axis}`");
                    return Err(Error::value(path(), "settings beside the axes", got));
                }
            }
            Ok((Some(name.clone()), table.clone().into_iter().collect()))
        });
        settings.collect()
    }
}

/// Refuses a key that another place sets too, or a part of it.
fn each_key_once<'a>(
    key: &str,
    path: &str,
    mut others: impl Iterator<Item = &'a (String, String)>,
) -> Result<()> {
    let dotted = dotted_key(key);
    match others.find(|(other, _)| overlap(&dotted_key(other), &dotted)) {
        Some((_, other)) => Err(Error::value(path, "each key once", format!("also `{other}`"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(more: &str) -> Result<SweepConfig, toml::de::Error> {
        toml::from_str(&format!(
            "stores = {{ train = 'a', held_out = 'b' }}\n{more}\n[base]\nsae.n_features = 64\n\
             architecture = {{ name = 'topk' }}\ntraining = {{ steps = 100, batch_size = 8 }}"
        ))
    }

    fn names(more: &str) -> Vec<String> {
        sweep(more).unwrap().points().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_of_a_zip_vary_together() {
        let text = "axes.k = [4, 8]\n[[zip]]\nlr = [1e-3, 3e-4]\nbatch_size = [16, 32]\n\
                    [[zip]]\nseed = [0, 1]\ntraining.log_every = [5, 6]";
        let names = names(text);
        assert_eq!(names.len(), 2 * 2 * 2);
        assert_eq!(
            names[0],
            "k = 4, lr = 0.001, batch_size = 16, seed = 0, training.log_every = 5"
        );
        assert_eq!(
            names[1],
            "k = 4, lr = 0.001, batch_size = 16, seed = 1, training.log_every = 6"
        );
        assert_eq!(names[2].split(", seed").next(), Some("k = 4, lr = 0.0003, batch_size = 32"));
    }

    #[test]
    fn an_architecture_has_axes_of_its_own() {
        let text = "axes = { architecture = ['topk', 'jumprelu'], seed = [0, 1] }\n\
                    [architectures.topk.axes]\nk = [4, 8, 16]\n\
                    [architectures.jumprelu]\nlr = 1e-3\naxes = { target_l0 = [5, 6] }";
        let runs = names(text);
        assert_eq!(runs.len(), 2 * 3 + 2 * 2);
        assert_eq!(runs[5], "architecture = \"topk\", seed = 1, k = 16");
        assert_eq!(runs[6], "architecture = \"jumprelu\", seed = 0, target_l0 = 5");
        // The base may name the architecture.
        let text = "[architectures.topk.axes]\nk = [4, 8]\n[[extra]]\nk = 5";
        assert_eq!(names(text), ["k = 4", "k = 8", "k = 5"]);
    }

    /// The error of a sweep.
    fn error(text: &str) -> String {
        match sweep(text) {
            Ok(sweep) => sweep.points().unwrap_err().to_string(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn a_key_that_two_places_set_is_refused_by_both_names() {
        let search = "[search]\nsamples = 2\nkeys = { lr = { log_uniform = [1e-4, 1e-2] } }";
        let lr = "axes = { k = [4, 8], lr = [1e-3] }";
        for (text, place, also) in [
            (format!("{lr}\n{search}"), "search.keys.lr", "axes.lr"),
            (
                format!("{lr}\nzip = [{{ 'training.lr' = [1e-3] }}]"),
                "zip[0].training.lr",
                "axes.lr",
            ),
            (
                "axes.k = [4]\nzip = [{ seed = [1] }, { seed = [2] }]".into(),
                "zip[1].seed",
                "zip[0].seed",
            ),
            (
                format!("{lr}\narchitectures.topk.axes.k = [4]"),
                "architectures.topk.axes.k",
                "axes.k",
            ),
            (
                "axes.k = [4]\narchitectures.topk = { lr = 1.0, axes.lr = [1.0] }".into(),
                "architectures.topk.axes.lr",
                "architectures.topk.lr",
            ),
            (
                "axes.k = [4]\narchitectures.topk.axes = { seed = [1], 'training.seed' = [2] }"
                    .into(),
                "architectures.topk.axes.training.seed",
                "architectures.topk.axes.seed",
            ),
            (
                "axes.k = [4]\nvariants.a.lr = 1.0\narchitectures.topk.axes.lr = [1.0]".into(),
                "architectures.topk.axes.lr",
                "variants.a.lr",
            ),
            (
                "axes = { auxk = [{ weight = 0.5 }], 'auxk.weight' = [0.1] }".into(),
                "axes.auxk.weight",
                "axes.auxk",
            ),
        ] {
            let error = error(&text);
            let words = format!("`{place}`: expected each key once, got also `{also}`");
            assert!(error.contains(&words), "{text}: {error}");
        }
        let varied = error(&format!("axes.k = [4]\nvariants.a = {{ lr = 1.0 }}\n{search}"));
        assert!(varied.contains("got `lr`, which is varied by `search.keys.lr`"), "{varied}");
    }

    #[test]
    fn what_is_no_list_of_values_is_refused() {
        for (text, words) in [
            (
                "axes.k = [4]\narchitectures.topk.axes.architecture = ['soft']",
                "expected other keys than `architecture`",
            ),
            (
                "axes.k = [4]\narchitectures.topk.axes = 3",
                "`architectures.topk.axes`: expected lists",
            ),
            (
                "axes.k = [4]\nzip = [{ lr = [1.0, 2.0], seed = [1, 2, 3] }]",
                "`zip[0].seed`: expected 2 values, as many as `lr` has, got 3",
            ),
            ("axes.k = [4]\nzip = [{}]", "`zip[0]`: expected lists of values by key"),
            ("axes.k = [4]\nzip = [{ lr = [] }]", "`zip[0].lr`: expected a list of at least"),
        ] {
            let error = error(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}

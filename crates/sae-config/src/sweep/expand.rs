//! From a sweep to its runs, each with an id.

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{SweepConfig, keys};
use crate::{Error, Result, RunConfig, apply_preset};

/// The variant that a run is of, and what sets the run apart.
type Settings = (Option<String>, Vec<(String, Value)>);

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepPoint {
    /// The variant that it is a run of, where the sweep has variants.
    pub variant: Option<String>,
    /// What sets it apart: the keys of the variant and the axes or of the extra run, with its
    /// values.
    pub settings: Vec<(String, Value)>,
    /// The resolved run; its `data.store` is empty until the activations exist.
    pub config: RunConfig,
}

impl SweepPoint {
    /// The value of a key of the resolved run, short or dotted.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Value> {
        let table = Table::try_from(&self.config).ok()?;
        keys::get(&table, &keys::resolve(key)).cloned()
    }
}

impl std::fmt::Display for SweepPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&list(&self.settings))
    }
}

impl SweepConfig {
    /// All runs: every combination of variants and axes, the last axis varying fastest, then the
    /// extra runs.
    ///
    /// # Errors
    /// The first setting that is unknown, of a wrong type or out of range, with the run it is
    /// found in; two runs that are the same.
    pub fn points(&self) -> Result<Vec<SweepPoint>> {
        if let Some(store) = keys::get(&self.base, "data.store") {
            let expected = "nothing: the sweep provides the activations";
            return Err(Error::value("base.data.store", expected, store));
        }
        let mut points: Vec<SweepPoint> = Vec::new();
        for (variant, settings) in self.settings()? {
            let config = self
                .run(&settings)
                .map_err(|e| Error::InRun { run: list(&settings), source: Box::new(e) })?;
            if points.iter().any(|p| p.config == config) {
                let expected = "runs that differ";
                return Err(Error::value("axes", expected, format!("{} twice", list(&settings))));
            }
            points.push(SweepPoint { variant, settings, config });
        }
        let used = |name: &str| points.iter().any(|p| p.config.architecture.name() == name);
        match self.architectures.keys().find(|name| !used(name)) {
            Some(name) => {
                let expected = "the name of an architecture that a run of this sweep has";
                Err(Error::value(format!("architectures.{name}"), expected, name))
            }
            None => Ok(points),
        }
    }

    /// What sets each run apart, and the variant it is of.
    fn settings(&self) -> Result<Vec<Settings>> {
        let mut product = self.variant_settings()?;
        for (key, values) in &self.axes {
            let path = format!("axes.{key}");
            let Some(values) = values.as_array().filter(|values| !values.is_empty()) else {
                return Err(Error::value(path, "a list of at least one value", values));
            };
            let dotted = keys::resolve(key);
            if let Some(other) = self.axes.keys().find(|k| *k != key && keys::resolve(k) == dotted)
            {
                return Err(Error::value(path, "each key once", format!("also `{other}`")));
            }
            product = product
                .iter()
                .flat_map(|(variant, run)| {
                    let with = |v: &Value| [&run[..], &[(key.clone(), v.clone())]].concat();
                    values.iter().map(move |v| (variant.clone(), with(v)))
                })
                .collect();
        }
        // Without axes the extra runs are all there is; without either, the base is one run.
        if self.axes.is_empty() && self.variants.is_empty() && !self.extra.is_empty() {
            product.clear();
        }
        for run in &self.extra {
            let mut run = run.clone();
            let variant = match run.remove("variant") {
                Some(Value::String(name)) => Some(name),
                Some(other) => return Err(Error::value("extra.variant", "a name", other)),
                None => None,
            };
            product.push((variant, run.into_iter().collect()));
        }
        Ok(product)
    }

    /// The settings of each variant; a nameless one without settings where there are none.
    fn variant_settings(&self) -> Result<Vec<Settings>> {
        if self.variants.is_empty() {
            return Ok(vec![(None, Vec::new())]);
        }
        let settings = self.variants.iter().map(|(name, settings)| {
            let path = || format!("variants.{name}");
            let Some(table) = settings.as_table() else {
                return Err(Error::value(path(), "a table of settings", settings));
            };
            let on_axis = |key: &String| {
                self.axes.keys().any(|axis| keys::resolve(axis) == keys::resolve(key))
            };
            if let Some(key) = table.keys().find(|key| on_axis(key)) {
                let got = format!("`{key}`, which is an axis");
                return Err(Error::value(path(), "settings beside the axes", got));
            }
            Ok((Some(name.clone()), table.clone().into_iter().collect()))
        });
        settings.collect()
    }

    /// The base run with the settings of its architecture and its own.
    fn run(&self, settings: &[(String, Value)]) -> Result<RunConfig> {
        let mut table = self.base.clone();
        let mut set = |key: &str, value: &Value| {
            let dotted = keys::resolve(key);
            keys::set(&mut table, &dotted, value).map_err(|at| {
                Error::value(at, format!("a table, since `{key}` is set"), "a plain value")
            })?;
            Ok::<_, Error>(keys::get(&table, "architecture.name").cloned())
        };
        let mut name = set("data.store", &Value::from(""))?;
        for (key, value) in settings {
            name = set(key, value)?;
        }
        let name = name.as_ref().and_then(Value::as_str);
        if let Some(own) = name.and_then(|name| self.architectures.get(name)) {
            for (key, value) in own.iter().chain(settings.iter().map(|(k, v)| (k, v))) {
                set(key, value)?;
            }
        }
        let parsed = RunConfig::deserialize(apply_preset(table)?);
        let config = parsed.map_err(|e| Error::Setting { message: e.to_string().trim().into() })?;
        config.resolve()
    }
}

fn list(settings: &[(String, Value)]) -> String {
    let settings: Vec<_> = settings.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    if settings.is_empty() { "base".into() } else { settings.join(", ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run_id;

    const SWEEP: &str = r#"
        [stores]
        train = "a"
        held_out = "b"
        [base.sae]
        n_features = 64
        [base.training]
        steps = 100
        batch_size = 8
        [architectures.soft]
        hard_steps = 10
        lr = 1e-3
        auxk = { weight = 0.1 }
        [axes]
        architecture = ["topk", "soft"]
        k = [4, 8]
        [[extra]]
        architecture = "topk"
        k = 16
        seed = 3
    "#;

    fn sweep(text: &str) -> SweepConfig {
        toml::from_str(text).unwrap()
    }

    fn error(change: impl FnOnce(&mut SweepConfig)) -> String {
        let mut sweep = sweep(SWEEP);
        change(&mut sweep);
        let Err(error) = sweep.points() else { panic!("accepted") };
        error.to_string()
    }

    #[test]
    fn the_product_of_the_axes_and_the_extra_runs() {
        let points = sweep(SWEEP).points().unwrap();
        let names: Vec<String> = points.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                r#"architecture = "topk", k = 4"#,
                r#"architecture = "topk", k = 8"#,
                r#"architecture = "soft", k = 4"#,
                r#"architecture = "soft", k = 8"#,
                r#"architecture = "topk", k = 16, seed = 3"#,
            ]
        );
        assert_eq!(points[0].value("auxk.weight"), Some(Value::Float(1.0 / 32.0)));
        assert_eq!(points[2].value("auxk.weight"), Some(Value::Float(0.1)));
        assert_eq!(points[2].value("lr"), Some(Value::Float(1e-3)));
        assert_eq!(points[3].value("architecture"), Some("soft".into()));
        assert_eq!(points[4].value("training.seed"), Some(Value::Integer(3)));
        assert_eq!(points[4].value("nonsense"), None);
    }

    #[test]
    fn an_axis_beats_the_settings_of_an_architecture() {
        let mut sweep = sweep(SWEEP);
        sweep.axes.insert("lr".into(), Value::Array(vec![Value::Float(0.5)]));
        assert!(sweep.points().unwrap()[..4].iter().all(|p| p.config.training.lr == Some(0.5)));
    }

    #[test]
    fn variants_are_combined_with_the_axes() {
        let mut sweep = sweep(SWEEP);
        sweep.axes.remove("architecture");
        sweep.variants = toml::from_str(
            "TopK = { architecture = 'topk' }\n'all the way' = { architecture = 'soft', \
             selection_gradient = 'full', hard_steps = 3 }",
        )
        .unwrap();
        let points = sweep.points().unwrap();
        let variants: Vec<_> = points.iter().map(|p| p.variant.as_deref()).collect();
        let (top, all) = (Some("TopK"), Some("all the way"));
        assert_eq!(variants, [top, top, all, all, None]);
        sweep.extra[0].insert("variant".into(), "another".into());
        assert_eq!(sweep.points().unwrap()[4].variant.as_deref(), Some("another"));
        assert_eq!(points[3].value("selection_gradient"), Some("full".into()));
        assert_eq!(points[3].value("hard_steps"), Some(3.into()));
        assert_eq!(points[3].value("k"), Some(8.into()));
        assert_eq!(points[2].value("lr"), Some(Value::Float(1e-3)));
        sweep.variants.insert("k".into(), toml::from_str::<Table>("k = 5").unwrap().into());
        let twice = sweep.points().unwrap_err().to_string();
        assert_eq!(
            twice,
            "`variants.k`: expected settings beside the axes, got `k`, which is an axis"
        );
        sweep.variants.insert("k".into(), 5.into());
        let plain = sweep.points().unwrap_err().to_string();
        assert_eq!(plain, "`variants.k`: expected a table of settings, got 5");
    }

    #[test]
    fn without_axes_the_base_or_the_extra_runs() {
        let mut sweep = sweep(SWEEP);
        sweep.axes.clear();
        sweep.architectures.clear();
        assert_eq!(sweep.points().unwrap().len(), 1);
        sweep.extra.clear();
        keys::set(&mut sweep.base, "architecture.name", &"topk".into()).unwrap();
        keys::set(&mut sweep.base, "architecture.k", &5.into()).unwrap();
        assert_eq!(sweep.points().unwrap()[0].to_string(), "base");
    }

    #[test]
    fn errors_name_run_key_expected_and_got() {
        let too_large = error(|s| s.axes["k"] = Value::Array(vec![64.into()]));
        assert_eq!(
            too_large,
            "run `architecture = \"topk\", k = 64`: `architecture.k`: \
             expected more than 0 and less than sae.n_features = 64, got 64"
        );
        let unknown = error(|s| drop(s.axes.insert("kk".into(), Value::Array(vec![1.into()]))));
        assert!(unknown.contains("kk = 1") && unknown.contains("unknown field `kk`"), "{unknown}");
        let wrong_type = error(|s| s.axes["k"] = Value::Array(vec!["four".into()]));
        assert!(wrong_type.contains("invalid type: string \"four\""), "{wrong_type}");
        let name = error(|s| s.axes["architecture"] = Value::Array(vec!["tpok".into()]));
        assert!(name.contains("unknown variant `tpok`"), "{name}");
        let scalar = error(|s| s.axes["k"] = 4.into());
        assert_eq!(scalar, "`axes.k`: expected a list of at least one value, got 4");
        let twice =
            error(|s| s.extra.push(toml::from_str("architecture = 'topk'\nk = 4").unwrap()));
        assert!(twice.contains("got architecture = \"topk\", k = 4 twice"), "{twice}");
        let both = error(|s| {
            s.axes.insert("architecture.k".into(), Value::Array(vec![4.into()]));
        });
        assert!(both.contains("expected each key once"), "{both}");
        let unused = error(|s| drop(s.architectures.insert("gated".into(), Table::new())));
        assert!(unused.starts_with("`architectures.gated`"), "{unused}");
        let store = error(|s| keys::set(&mut s.base, "data.store", &"x".into()).unwrap());
        assert!(store.starts_with("`base.data.store`"), "{store}");
        let plain = error(|s| drop(s.extra[0].insert("training.steps.x".into(), 1.into())));
        assert!(plain.contains("`training.steps`: expected a table"), "{plain}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_order_of_axes_changes_no_id(
            order in Just(vec!["architecture", "k", "seed", "lr"]).prop_shuffle(),
            long in any::<bool>(),
        ) {
            let ids = |order: &[&str], long: bool| {
                let mut sweep = sweep(SWEEP);
                sweep.architectures.clear();
                sweep.axes.clear();
                for axis in order {
                    let values = match *axis {
                        "architecture" => vec!["topk".into(), "batch_topk".into()],
                        "k" => vec![3.into(), 5.into()],
                        "seed" => vec![0.into(), 1.into(), 2.into()],
                        _ => vec![Value::Float(1e-3), Value::Float(1e-4)],
                    };
                    let key = if long { keys::resolve(axis) } else { (*axis).into() };
                    sweep.axes.insert(key, Value::Array(values));
                }
                let points = sweep.points().unwrap();
                let mut ids: Vec<_> = points.iter().map(|p| run_id(&p.config, "")).collect();
                ids.sort();
                ids.dedup();
                ids
            };
            let expected = ids(&["architecture", "k", "seed", "lr"], false);
            prop_assert_eq!(expected.len(), 2 * 2 * 3 * 2 + 1);
            prop_assert_eq!(ids(&order, long), expected);
        }
    }
}

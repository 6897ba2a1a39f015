//! From a sweep to its runs, each with an id.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::axes::{Factor, OWN_AXES, Settings};
use super::live::PROVIDED;
use super::point::list;
use super::{SweepConfig, SweepPoint, keys};
use crate::{CheckedRun, Error, Result, RunConfig, apply_preset, run_id};

impl SweepConfig {
    /// All runs: every combination of variants, axes, keys that vary together, samples of the
    /// search and axes of the architecture, the last varying fastest, then the extra runs.
    ///
    /// # Errors
    /// The first setting that is unknown, of a wrong type or out of range, with the run it is
    /// found in; a key that two of them set; two runs that are the same.
    pub fn points(&self) -> Result<Vec<SweepPoint>> {
        self.check_base_data()?;
        let mut base = apply_preset(self.base.clone())?;
        if !self.is_live() {
            set(&mut base, "data.store", &Value::from(""))?;
        }
        let mut points: Vec<SweepPoint> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (variant, settings) in self.settings(&base)? {
            let run = self
                .run(&base, &settings)
                .map_err(|e| Error::InRun { run: list(&settings), source: Box::new(e) })?;
            // Runs of one id would share a folder. What files hold is not known here.
            let files = format!("{:?} {:?}", run.data.rows, run.training.init);
            if let Some(other) = places.insert(run_id(&run, &files), points.len()) {
                let (one, other) = (list(&settings), list(&points[other].settings));
                let got = match one == other {
                    true => format!("{one} twice"),
                    false => format!("`{other}` and `{one}`, which are one run"),
                };
                return Err(Error::value("axes", "runs that differ", got));
            }
            points.push(SweepPoint { variant, settings, config: run.settings().clone() });
        }
        let used: HashSet<_> = points.iter().map(|p| p.config.architecture.name()).collect();
        if let Some(name) = self.architectures.keys().find(|name| !used.contains(name.as_str())) {
            let expected = "the name of an architecture that a run of this sweep has";
            return Err(Error::value(format!("architectures.{name}"), expected, name));
        }
        self.check_hooks(&points)?;
        self.halving.as_ref().map_or(Ok(()), |halving| halving.check_runs(&points))?;
        Ok(points)
    }

    /// What sets each run apart, and the variant it is of.
    fn settings(&self, base: &Table) -> Result<Vec<(Option<String>, Settings)>> {
        let factors = self.factors()?;
        let mut own = BTreeMap::new();
        for name in self.architectures.keys() {
            own.insert(name.as_str(), self.own_axes(name, &factors)?);
        }
        let mut product = Vec::new();
        let mut varied = HashSet::new();
        for (variant, settings) in self.variant_settings(&factors)? {
            for settings in combined(settings, &factors) {
                let name = architecture(base, &settings);
                let own = name.and_then(|name| own.get_key_value(name));
                varied.extend(own.map(|(name, _)| *name));
                let own = own.map_or(&[][..], |(_, axes)| axes);
                let variant = || variant.clone();
                product.extend(combined(settings, own).into_iter().map(|s| (variant(), s)));
            }
        }
        let is_idle =
            |(name, own): &(&&str, &Vec<Factor>)| !own.is_empty() && !varied.contains(*name);
        if let Some((name, _)) = own.iter().find(is_idle) {
            let expected = "an architecture that runs beside the extra ones have";
            return Err(Error::value(format!("architectures.{name}.{OWN_AXES}"), expected, name));
        }
        // Without any of them the extra runs are all there is; without those, the base is one run.
        let is_base_alone = matches!(&product[..], [(None, settings)] if settings.is_empty());
        if is_base_alone && !self.extra.is_empty() {
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

    /// The base run with the settings of its architecture and its own.
    fn run(&self, base: &Table, settings: &[(String, Value)]) -> Result<CheckedRun> {
        let mut table = base.clone();
        for (key, value) in settings {
            set(&mut table, key, value)?;
        }
        let name = keys::get(&table, "architecture.name").and_then(Value::as_str);
        if table.get("architecture").is_none_or(|own| own.is_table() && own.get("name").is_none()) {
            let expected = "the name of one, in `base` or among what varies";
            return Err(Error::value("architecture", expected, "none"));
        }
        if let Some(own) = name.and_then(|name| self.architectures.get(name)) {
            let own = own.iter().filter(|(key, _)| *key != OWN_AXES);
            for (key, value) in own.chain(settings.iter().map(|(k, v)| (k, v))) {
                set(&mut table, key, value)?;
            }
        }
        self.check_run_data(&table)?;
        let parsed = RunConfig::deserialize(table);
        let config = parsed.map_err(|e| Error::Setting { message: e.to_string().trim().into() })?;
        if !config.data.store.as_os_str().is_empty() {
            return Err(Error::value("data.store", PROVIDED, config.data.store.display()));
        }
        if let Some(target) = &config.data.target {
            return Err(Error::value("data.target", PROVIDED, target.display()));
        }
        config.check()
    }
}

/// Every combination of the rows of all factors, the last varying fastest, after some settings.
fn combined(settings: Settings, factors: &[Factor]) -> Vec<Settings> {
    let mut product = vec![settings];
    for factor in factors {
        let with = |run: &Settings| {
            let rows = factor.rows.iter();
            rows.map(|row| [&run[..], &row[..]].concat()).collect::<Vec<_>>()
        };
        product = product.iter().flat_map(with).collect();
    }
    product
}

/// The architecture of a run with some settings.
fn architecture<'a>(base: &'a Table, settings: &'a [(String, Value)]) -> Option<&'a str> {
    let mut last_first = settings.iter().rev();
    let set = last_first.find_map(|(key, value)| match keys::dotted_key(key).as_str() {
        "architecture.name" => match value {
            // `architecture` may be a table of settings.
            Value::Table(table) => table.get("name"),
            name => Some(name),
        },
        _ => None,
    });
    set.or_else(|| keys::get(base, "architecture.name"))?.as_str()
}

/// Sets a short or dotted key of a run.
fn set(table: &mut Table, key: &str, value: &Value) -> Result<()> {
    keys::set(table, &keys::dotted_key(key), value)
        .map_err(|at| Error::value(at, format!("a table, since `{key}` is set"), "a plain value"))
}

#[cfg(test)]
mod tests;

//! The settings of a host (`config.json`), read key by key with errors that name the key.
//!
//! Every key that is read is remembered, so that [`HostConfig::finish`] can refuse those that nobody
//! asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// The largest integer accepted for a size: far above any host, far below overflow.
const MAX_SIZE: i64 = 1 << 31;

/// A host's settings, in the names that Hugging Face gives them.
#[derive(Debug)]
pub(crate) struct HostConfig {
    path: PathBuf,
    /// The keys that lead to these settings where they are part of others, each with a dot.
    prefix: String,
    values: Map<String, Value>,
    /// What an absent key stands for.
    defaults: Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl HostConfig {
    pub(crate) fn new(path: &Path, values: Map<String, Value>) -> Self {
        Self {
            path: path.to_path_buf(),
            prefix: String::new(),
            values,
            defaults: Map::new(),
            read: RefCell::default(),
        }
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::io(path))?;
        match sae_config::json_from_slice(&text) {
            Ok(Value::Object(values)) => Ok(Self::new(path, values)),
            Ok(_) => Err(Error::file(path, "top level", "a JSON object", "another value")),
            Err(error) => Err(Error::file(path, "top level", "a JSON object", error)),
        }
    }

    /// The same settings, of which none was read yet, where an absent key (not one that is `null`)
    /// stands for its value in `defaults`, a JSON object.
    pub(crate) fn with_defaults(&self, defaults: Value) -> Self {
        let defaults = if let Value::Object(defaults) = defaults { defaults } else { Map::new() };
        Self {
            path: self.path.clone(),
            prefix: self.prefix.clone(),
            values: self.values.clone(),
            defaults,
            read: RefCell::default(),
        }
    }

    /// The object under a key as settings of their own; `None` if the key is absent.
    ///
    /// Whoever takes it calls its [`HostConfig::finish`].
    pub(crate) fn section(&self, key: &str) -> Result<Option<Self>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let values = self.required(key, "an object", value.as_object().cloned())?;
        let prefix = format!("{}{key}.", self.prefix);
        Ok(Some(Self { prefix, ..Self::new(&self.path, values) }))
    }

    /// Settings without a key, for an object that is absent.
    pub(crate) fn empty(&self) -> Self {
        Self::new(&self.path, Map::new())
    }

    /// These settings with those of `other` in place of their own.
    pub(crate) fn updated(mut self, other: &Self) -> Self {
        self.values.extend(other.defaults.clone());
        self.values.extend(other.values.clone());
        self
    }

    /// Refuses settings with a key that was not read, is not `null` and is not among `ignored`: it
    /// may change what is computed.
    pub(crate) fn finish(&self, ignored: &[&str]) -> Result<()> {
        let read = self.read.borrow();
        let unknown = |key: &str| !read.contains(key) && !ignored.contains(&key);
        match self.values.iter().find(|(key, value)| unknown(key) && !value.is_null()) {
            None => Ok(()),
            Some((key, value)) => Err(self.wrong(key, "no such key in this model", value)),
        }
    }

    /// An error about `key`.
    pub(crate) fn wrong(
        &self,
        key: &str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Error {
        Error::file(&self.path, format!("`{}{key}`", self.prefix), expected, got)
    }

    /// The value of a key; `null` counts as absent, but has no default.
    fn get(&self, key: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(key.to_owned());
        let value = self.values.get(key).or_else(|| self.defaults.get(key));
        value.filter(|value| !value.is_null())
    }

    /// Whether other settings have the same keys and values.
    pub(crate) fn same_values(&self, other: &Self) -> bool {
        self.values == other.values
    }

    /// Whether a key has a value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn is_number(&self, key: &str) -> bool {
        self.get(key).is_some_and(Value::is_number)
    }

    fn required<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| match self.get(key) {
            Some(other) => self.wrong(key, expected, other),
            None => self.wrong(key, expected, "nothing"),
        })
    }

    /// A size: an integer above 0.
    pub(crate) fn size(&self, key: &str) -> Result<i64> {
        let value = self.get(key).and_then(Value::as_i64).filter(|v| (1..=MAX_SIZE).contains(v));
        self.required(key, "an integer from 1 to 2^31", value)
    }

    /// The same as a `usize`.
    pub(crate) fn count(&self, key: &str) -> Result<usize> {
        Ok(self.size(key)?.unsigned_abs() as usize)
    }

    pub(crate) fn size_or(&self, key: &str, default: i64) -> Result<i64> {
        if self.get(key).is_some() { self.size(key) } else { Ok(default) }
    }

    pub(crate) fn size_optional(&self, key: &str) -> Result<Option<i64>> {
        self.get(key).map(|_| self.size(key)).transpose()
    }

    /// A finite number above 0.
    pub(crate) fn float(&self, key: &str) -> Result<f64> {
        let value = self.get(key).and_then(Value::as_f64).filter(|v| v.is_finite() && *v > 0.0);
        self.required(key, "a number above 0", value)
    }

    pub(crate) fn float_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.get(key).is_some() { self.float(key) } else { Ok(default) }
    }

    pub(crate) fn float_optional(&self, key: &str) -> Result<Option<f64>> {
        self.get(key).map(|_| self.float(key)).transpose()
    }

    pub(crate) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            Some(value) => self.required(key, "true or false", value.as_bool()),
            None => Ok(default),
        }
    }

    pub(crate) fn string(&self, key: &str) -> Result<&str> {
        self.required(key, "a string", self.get(key).and_then(Value::as_str))
    }

    /// An integer from 0.
    pub(crate) fn whole_or(&self, key: &str, default: u64) -> Result<u64> {
        match self.get(key) {
            Some(value) => self.required(key, "an integer from 0", value.as_u64()),
            None => Ok(default),
        }
    }

    /// A number for each of three colours.
    pub(crate) fn colours(&self, key: &str) -> Result<[f32; 3]> {
        let list = self.get(key).and_then(Value::as_array);
        let numbers: Option<Vec<f32>> =
            list.and_then(|list| list.iter().map(|v| v.as_f64().map(|v| v as f32)).collect());
        self.required(key, "three numbers", numbers.and_then(|n| n.try_into().ok()))
    }

    /// The finite numbers above 0 of a list, or `None` where the key is absent.
    pub(crate) fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = |value: &Value| value.as_f64().filter(|v| v.is_finite() && *v > 0.0);
        let list = value.as_array().and_then(|list| list.iter().map(number).collect());
        self.required(key, "a list of numbers above 0", list).map(Some)
    }

    /// The strings of a list, or `None` where the key is absent.
    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        self.required(key, "a list of strings", list).map(Some)
    }

    /// Refuses any value of `key` but `expected` (and absence).
    pub(crate) fn only(&self, key: &str, expected: impl Into<Value>) -> Result<()> {
        let expected = expected.into();
        match self.get(key) {
            Some(value) if *value != expected => Err(self.wrong(key, expected, value)),
            _ => Ok(()),
        }
    }

    /// Refuses any number under `key` but `expected`.
    pub(crate) fn only_number(&self, key: &str, expected: f64) -> Result<()> {
        match self.get(key) {
            Some(value) if value.as_f64() != Some(expected) => {
                Err(self.wrong(key, expected, value))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a `total` that is not a multiple of `part`.
    pub(crate) fn divides(&self, key: &str, total: i64, part: i64) -> Result<i64> {
        if total % part == 0 {
            Ok(total / part)
        } else {
            Err(self.wrong(key, format!("a divisor of {total}"), part))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> HostConfig {
        HostConfig::new(Path::new("config.json"), serde_json::from_str(text).unwrap())
    }

    #[test]
    fn values_out_of_range_name_the_key_and_what_came() {
        let config = config(r#"{"hidden_size": 0, "rms_norm_eps": "x", "tie": 1}"#);
        let message = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(
            message(config.size("hidden_size").map(drop)),
            "config.json: `hidden_size`: expected an integer from 1 to 2^31, got 0"
        );
        assert_eq!(
            message(config.float("rms_norm_eps").map(drop)),
            "config.json: `rms_norm_eps`: expected a number above 0, got \"x\""
        );
        assert_eq!(
            message(config.bool_or("tie", false).map(drop)),
            "config.json: `tie`: expected true or false, got 1"
        );
        assert_eq!(
            message(config.size("n_layer").map(drop)),
            "config.json: `n_layer`: expected an integer from 1 to 2^31, got nothing"
        );
    }

    #[test]
    fn null_is_absent_but_has_no_default() {
        let config = config(r#"{"head_dim": null, "cap": null}"#);
        let config = config.with_defaults(serde_json::json!({"cap": 30.0, "window": 8}));
        assert_eq!(config.size_or("head_dim", 7).unwrap(), 7);
        assert_eq!(config.float_optional("cap").unwrap(), None);
        assert_eq!(config.size("window").unwrap(), 8);
    }

    #[test]
    fn keys_that_nobody_read_are_refused_by_name_and_value() {
        let config = config(r#"{"a": 1, "b": null, "c": {"d": 2, "e": [3]}, "f": 4}"#);
        assert_eq!(config.size("a").unwrap(), 1);
        let section = config.section("c").unwrap().unwrap();
        assert_eq!(section.size("d").unwrap(), 2);
        assert!(config.finish(&["f"]).is_ok());
        let message = |result: Result<()>| result.unwrap_err().to_string();
        let expected = "expected no such key in this model";
        assert_eq!(message(config.finish(&[])), format!("config.json: `f`: {expected}, got 4"));
        assert_eq!(
            message(section.finish(&["f"])),
            format!("config.json: `c.e`: {expected}, got [3]")
        );
        assert_eq!(
            message(config.section("a").map(drop)),
            "config.json: `a`: expected an object, got 1"
        );
    }
}

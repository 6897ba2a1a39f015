//! The settings of a host (`config.json`), read key by key with errors that name the key.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// The largest integer accepted for a size: far above any host, far below overflow.
const MAX_SIZE: i64 = 1 << 31;

/// A host's settings, in the names that Hugging Face gives them.
#[derive(Debug)]
pub(crate) struct HostConfig {
    path: PathBuf,
    values: Map<String, Value>,
}

impl HostConfig {
    pub(crate) fn new(path: &Path, values: Map<String, Value>) -> Self {
        Self { path: path.to_path_buf(), values }
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::io(path))?;
        match serde_json::from_slice(&text) {
            Ok(Value::Object(values)) => Ok(Self::new(path, values)),
            Ok(_) => Err(Error::file(path, "top level", "a JSON object", "another value")),
            Err(error) => Err(Error::file(path, "top level", "a JSON object", error)),
        }
    }

    /// An error about `key`.
    pub(crate) fn wrong(
        &self,
        key: &str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Error {
        Error::file(&self.path, format!("`{key}`"), expected, got)
    }

    /// The value of a key, looked up in `rope_parameters` too; `null` counts as absent.
    fn get(&self, key: &str) -> Option<&Value> {
        let nested = || self.values.get("rope_parameters")?.get(key);
        self.values.get(key).or_else(nested).filter(|value| !value.is_null())
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

    /// Whether a key holds an object with this part.
    pub(crate) fn has(&self, key: &str, part: &str) -> bool {
        self.get(key).is_some_and(|value| value.get(part).is_some_and(|part| !part.is_null()))
    }

    /// A size in the object under a key.
    pub(crate) fn part(&self, key: &str, part: &str) -> Result<u32> {
        let size =
            |value: &Value| u32::try_from(value.get(part)?.as_u64()?).ok().filter(|n| *n > 0);
        let expected = format!("an object with `{part}` above 0");
        self.required(key, &expected, self.get(key).and_then(size))
    }

    /// Two sizes in the object under a key; a single number is both.
    pub(crate) fn pair(&self, key: &str, first: &str, second: &str) -> Result<[u32; 2]> {
        match self.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()) {
            Some(both) if both > 0 => Ok([both; 2]),
            _ => Ok([self.part(key, first)?, self.part(key, second)?]),
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
    fn null_is_absent_and_rope_parameters_are_searched() {
        let config = config(r#"{"head_dim": null, "rope_parameters": {"rope_theta": 5e5}}"#);
        assert_eq!(config.size_or("head_dim", 7).unwrap(), 7);
        assert_eq!(config.float("rope_theta").unwrap(), 5e5);
        assert!(config.only("rope_type", "default").is_ok());
    }
}

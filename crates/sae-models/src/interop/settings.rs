//! Settings of another tool's JSON file: read by key, and every key accounted for.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// What is done with each key of an object of settings; a key of no table is refused.
pub(super) struct Keys {
    /// Keys that the reader follows.
    pub(super) read: &'static [&'static str],
    /// Keys, the values (as JSON) under which they change nothing, and what another would mean.
    pub(super) neutral: &'static [(&'static str, &'static [&'static str], &'static str)],
    /// Keys that cannot change what is computed here, with the reason.
    pub(super) ignored: &'static [(&'static str, &'static [&'static str])],
}

/// An object of settings, which errors name with its file.
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) map: Map<String, Value>,
    /// Keys that lead to the object in its file, each with a dot.
    prefix: String,
}

impl Settings {
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let map = sae_config::read_json(&path)?;
        Ok(Self { path, map, prefix: String::new() })
    }

    /// No settings of a file.
    pub(super) fn none(path: PathBuf) -> Self {
        Self { path, map: Map::new(), prefix: String::new() }
    }

    /// The settings under `key`, or none.
    pub(super) fn inner(&self, key: &str) -> Result<Self> {
        let map = match self.value(key) {
            Value::Null => Map::new(),
            Value::Object(map) => map.clone(),
            other => return Err(self.wrong(key, "an object", other)),
        };
        let prefix = format!("{}{key}.", self.prefix);
        Ok(Self { path: self.path.clone(), map, prefix })
    }

    /// Refuses a key that no table knows, and a value that a neutral key cannot have.
    pub(super) fn check(&self, tables: &[&Keys]) -> Result<()> {
        self.map.iter().try_for_each(|(key, value)| self.check_key(tables, key, value))
    }

    fn check_key(&self, tables: &[&Keys], key: &str, value: &Value) -> Result<()> {
        let known = |table: &&Keys| {
            table.read.contains(&key) || table.ignored.iter().any(|(_, keys)| keys.contains(&key))
        };
        if tables.iter().any(known) {
            return Ok(());
        }
        let mut neutral = tables.iter().flat_map(|table| table.neutral);
        match neutral.find(|(name, ..)| *name == key) {
            Some((_, values, _)) if values.contains(&&*value.to_string()) => Ok(()),
            Some((_, values, otherwise)) => {
                let expected = match values {
                    [] => format!("absent: {otherwise} is not read"),
                    _ => format!("{}: {otherwise} is not read", values.join(" or ")),
                };
                Err(self.wrong(key, &expected, value))
            }
            None => Err(Error::Format {
                path: self.path.clone(),
                expected: "settings whose meaning is known".into(),
                got: format!("`{}{key}`: {}", self.prefix, short(value)),
            }),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<&str> {
        self.get(key, "a string", Value::as_str)
    }

    /// A string, or none where it is absent or null.
    pub(super) fn text_or_none(&self, key: &str) -> Result<Option<&str>> {
        match self.value(key) {
            Value::Null => Ok(None),
            _ => self.text(key).map(Some),
        }
    }

    /// A whole number above 0, which other tools may write as a float.
    pub(super) fn size(&self, key: &str) -> Result<usize> {
        self.get(key, "a whole number above 0", whole)
    }

    pub(super) fn number(&self, key: &str) -> Result<f64> {
        self.get(key, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, key: &str, absent: bool) -> Result<bool> {
        match self.value(key) {
            Value::Null => Ok(absent),
            _ => self.get(key, "true or false", Value::as_bool),
        }
    }

    /// The value under `key`; null where there is none.
    pub(super) fn value(&self, key: &str) -> &Value {
        self.map.get(key).unwrap_or(&Value::Null)
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.value(key);
        read(value).ok_or_else(|| self.wrong(key, expected, value))
    }

    pub(super) fn wrong(&self, key: &str, expected: &str, got: impl std::fmt::Display) -> Error {
        Error::Format {
            path: self.path.clone(),
            expected: format!("`{}{key}` {expected}", self.prefix),
            got: short(got),
        }
    }
}

/// A whole number above 0.
pub(super) fn whole(value: &Value) -> Option<usize> {
    let float = value.as_f64().filter(|x| x.fract() == 0.0 && *x > 0.0 && *x < 9e15);
    float.map(|x| x as usize)
}

/// At most as much of a value as a line of an error holds.
fn short(value: impl std::fmt::Display) -> String {
    const MOST: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST).chain("...".chars()).collect()
}

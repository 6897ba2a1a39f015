//! A run of a sweep, and what sets it apart.

use serde_json::Value as Json;
use toml::Value;

use super::keys;
use crate::RunConfig;

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepPoint {
    /// The variant that it is a run of, where the sweep has variants.
    pub variant: Option<String>,
    /// What sets it apart: the keys of the variant and the axes or of the extra run, with its
    /// values.
    pub settings: Vec<(String, Value)>,
    /// The run with its defaults filled in; its `data.store` is empty until the activations exist.
    pub config: RunConfig,
}

impl SweepPoint {
    /// The value of a key of the run, short or dotted; null where the run leaves it out,
    /// none where it has no such key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Json> {
        let run = serde_json::to_value(&self.config).ok()?;
        let pointer = format!("/{}", keys::dotted_key(key).replace('.', "/"));
        run.pointer(&pointer).cloned()
    }
}

impl std::fmt::Display for SweepPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&list(&self.settings))
    }
}

/// Settings as one reads them.
pub(super) fn list(settings: &[(String, Value)]) -> String {
    let settings: Vec<_> = settings.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    if settings.is_empty() { "base".into() } else { settings.join(", ") }
}

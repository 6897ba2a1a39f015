//! What the result of a run has that this version does not know.

use sae_config::RunResult;
use serde_json::Value;

/// Keys that are named; others are counted.
const MAX_NAMED: usize = 5;

/// Names what this version would leave out of a run; none where it knows all of it, or cannot read it.
pub(crate) fn unknown(run: &Value) -> Option<String> {
    let known: RunResult = serde_json::from_value(run.clone()).ok()?;
    let known = serde_json::to_value(known).ok()?;
    let mut keys = Vec::new();
    missing("", run, &known, &mut keys);
    let n_more = keys.len().saturating_sub(MAX_NAMED);
    let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
    keys.truncate(MAX_NAMED);
    let named: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    let are = format!("{}{more}: not known to this version, and not shown", named.join(", "));
    (!keys.is_empty()).then_some(are)
}

/// Collects the keys of `said` that `known` has not. A value that says nothing may be left out.
fn missing(prefix: &str, said: &Value, known: &Value, keys: &mut Vec<String>) {
    match (said, known) {
        (Value::Object(said), Value::Object(known)) => {
            for (key, value) in said {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                match known.get(key) {
                    Some(known) => missing(&name, value, known, keys),
                    None if is_nothing(value) => {}
                    None => keys.push(name),
                }
            }
        }
        (Value::Array(said), Value::Array(known)) => {
            for (at, (said, known)) in said.iter().zip(known).enumerate() {
                missing(&format!("{prefix}[{at}]"), said, known, keys);
            }
        }
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::{evaluated, run};

    #[test]
    fn what_a_later_version_has_measured_is_named() {
        let run = evaluated(run("architecture.k = 4"), 4.0, 0.5);
        let plain = serde_json::to_value(run).unwrap();
        assert_eq!(unknown(&plain), None);
        let mut later = plain.clone();
        later["flux"] = 3.into();
        later["evaluation"]["sparsity"]["half_dead"] = json!({"share": 0.5});
        // What says nothing is no loss.
        later["evaluation"]["nothing"] = Value::Null;
        later["evaluation"]["none"] = json!([]);
        let named = unknown(&later).unwrap();
        assert_eq!(
            named,
            "`evaluation.sparsity.half_dead`, `flux`: not known to this version, and not shown"
        );
        for n in 0..9 {
            later["evaluation"][format!("a{n}")] = n.into();
        }
        let named = unknown(&later).unwrap();
        assert!(named.contains("`evaluation.a4` and 6 more: not known"), "{named}");
        later["config"] = json!({"architecture": "another"});
        assert_eq!(unknown(&later), None, "what cannot be read is told elsewhere");
    }
}

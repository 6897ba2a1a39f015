//! Keys of the run file: from short to dotted, and values by key.

use std::sync::LazyLock;

use serde::de::{Deserialize, Deserializer, Visitor, value};
use toml::{Table, Value};

use crate::{DataConfig, SaeConfig, TrainingConfig};

/// A section of the run file, and its keys.
type Section = (&'static str, &'static [&'static str]);

/// The sections whose keys are always the same.
static SECTIONS: LazyLock<[Section; 3]> = LazyLock::new(|| {
    [
        ("data", fields::<DataConfig>()),
        ("sae", fields::<SaeConfig>()),
        ("training", fields::<TrainingConfig>()),
    ]
});

/// The dotted key of the run file that a short or dotted one stands for.
#[must_use]
pub fn dotted_key(key: &str) -> String {
    let (head, _) = key.split_once('.').unwrap_or((key, ""));
    if key == "architecture" {
        return "architecture.name".into();
    }
    if ["data", "sae", "architecture", "training"].contains(&head) {
        return key.into();
    }
    let section = SECTIONS.iter().find(|(_, fields)| fields.contains(&head));
    format!("{}.{key}", section.map_or("architecture", |(name, _)| name))
}

/// The dotted keys of the run file that do not depend on the architecture.
#[must_use]
pub fn run_keys() -> Vec<String> {
    let keys = |(name, fields): &Section| {
        let name = *name;
        fields.iter().map(move |field| format!("{name}.{field}")).collect::<Vec<_>>()
    };
    SECTIONS.iter().flat_map(keys).collect()
}

/// Whether two dotted keys set the same thing, or one a part of the other.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let is_within =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|r| r.starts_with('.'));
    a == b || is_within(a, b) || is_within(b, a)
}

/// The value at a dotted key.
pub(super) fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((head, rest)) => get(table.get(head)?.as_table()?, rest),
    }
}

/// Sets the value at a dotted key, making the tables on the way; a table is merged.
/// Gives back the key that stands in the way if it holds no table.
pub(crate) fn set(table: &mut Table, key: &str, value: &Value) -> Result<(), String> {
    if let Some((head, rest)) = key.split_once('.') {
        let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
        let inner = inner.as_table_mut().ok_or(head)?;
        return set(inner, rest, value).map_err(|e| format!("{head}.{e}"));
    }
    match (table.get_mut(key), value) {
        (Some(Value::Table(old)), Value::Table(new)) => {
            new.iter().try_for_each(|(k, v)| set(old, k, v)).map_err(|e| format!("{key}.{e}"))
        }
        _ => {
            table.insert(key.into(), value.clone());
            Ok(())
        }
    }
}

/// The keys that a configuration struct reads, as serde knows them.
pub(crate) fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // Always an error: the probe hands out no values.
    let _ = T::deserialize(FieldProbe(&mut fields));
    fields
}

/// A deserializer that only notes the fields it is asked for.
struct FieldProbe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldProbe<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_find_their_section() {
        for (short, dotted) in [
            ("architecture", "architecture.name"),
            ("k", "architecture.k"),
            ("auxk.weight", "architecture.auxk.weight"),
            ("lr", "training.lr"),
            ("seed", "training.seed"),
            ("batch_size", "training.batch_size"),
            ("n_features", "sae.n_features"),
            ("max_norm_ratio", "data.max_norm_ratio"),
            ("training.lr", "training.lr"),
        ] {
            assert_eq!(dotted_key(short), dotted);
        }
    }

    #[test]
    fn short_keys_are_unambiguous() {
        let mut all =
            [fields::<DataConfig>(), fields::<SaeConfig>(), fields::<TrainingConfig>()].concat();
        let n = all.len();
        assert!(n > 10, "the probe found only {all:?}");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), n);
    }

    #[test]
    fn keys_overlap_where_one_holds_the_other() {
        for (a, b, expected) in [
            ("training.lr", "training.lr", true),
            ("architecture.auxk", "architecture.auxk.weight", true),
            ("architecture.auxk.weight", "architecture.auxk", true),
            ("architecture.k", "architecture.k_max", false),
            ("training.lr", "training.seed", false),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} and {b}");
        }
        assert!(run_keys().contains(&"training.micro_batch".to_owned()), "{:?}", run_keys());
    }

    #[test]
    fn tables_merge_and_values_replace() {
        let mut table: Table = toml::from_str("[a]\nx = 1\n[a.b]\ny = 2\nz = 3").unwrap();
        let new: Table = toml::from_str("b = { y = 5 }").unwrap();
        set(&mut table, "a", &Value::Table(new)).unwrap();
        assert_eq!(get(&table, "a.b.y"), Some(&Value::Integer(5)));
        assert_eq!(get(&table, "a.b.z"), Some(&Value::Integer(3)));
        assert_eq!(set(&mut table, "a.x.q", &Value::Integer(1)), Err("a.x".into()));
    }
}

//! Keys that come once: readers of JSON otherwise take the last of several, or the first.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Any value of JSON in whose objects no key comes twice.
pub(crate) struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of JSON")
            }

            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
                Ok(Unique)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Unique, A::Error> {
                while let Some(Unique) = values.next_element()? {}
                Ok(Unique)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
                let mut keys = HashSet::new();
                while let Some(key) = entries.next_key::<String>()? {
                    let Unique = entries.next_value()?;
                    if let Some(key) = keys.replace(key) {
                        return Err(A::Error::custom(format_args!("the key `{key}` comes twice")));
                    }
                }
                Ok(Unique)
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

#[cfg(test)]
mod tests {
    use super::Unique;

    #[test]
    fn a_key_that_comes_twice_is_found_wherever_it_is() {
        let check = |text: &str| serde_json::from_str::<Unique>(text).map(|Unique| ());
        for text in [
            "null",
            r#"{"a": 1, "b": {"a": [-2, 0.5, "x", true, {"a": null}]}, "A": 18446744073709551615}"#,
            r#"[{"a": 1}, {"a": 1}]"#,
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
        for text in [
            r#"{"a": 1, "b": 2, "a": 1}"#,
            r#"[{"x": {"a": 1, "\u0061": 2}}]"#,
            r#"{"a": [], "a": {"b": 1}}"#,
        ] {
            let error = check(text).unwrap_err().to_string();
            assert!(error.starts_with("the key `a` comes twice at line 1 column "), "{error}");
        }
    }
}

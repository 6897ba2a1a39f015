//! Values of JSON whose objects keep their order, as templates of chats see them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// Keys and values in their order.
pub(super) type Object = Vec<(String, Json)>;

/// The value of a key.
pub(super) fn get<'a>(object: &'a Object, key: &str) -> Option<&'a Json> {
    object.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

impl Json {
    /// Writes the value so that neither the order of keys nor keys that are null show: columns of
    /// Parquet have every key in every object.
    pub(super) fn canonical(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(&number.to_string()),
            Self::Text(value) => {
                text.push_str(&serde_json::Value::from(value.as_str()).to_string())
            }
            Self::List(values) => {
                text.push('[');
                for value in values {
                    value.canonical(text);
                    text.push(',');
                }
                text.push(']');
            }
            Self::Object(object) => canonical(object, text),
        }
    }

    /// The value in few words.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("the text `{}`", text.chars().take(40).collect::<String>()),
            Self::List(_) => "a list".to_owned(),
            Self::Object(object) => format!("an object of {}", keys(object)),
        }
    }
}

/// An object as [`Json::canonical`] writes it.
pub(super) fn canonical(object: &Object, text: &mut String) {
    let mut keys: Vec<&String> = object.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    text.push('{');
    for key in keys {
        match get(object, key) {
            None | Some(Json::Null) => {}
            Some(value) => {
                text.push_str(&serde_json::Value::from(key.as_str()).to_string());
                text.push(':');
                value.canonical(text);
                text.push(',');
            }
        }
    }
    text.push('}');
}

/// The keys of an object, for messages.
pub(super) fn keys(object: &Object) -> String {
    match object.as_slice() {
        [] => "none".to_owned(),
        entries => {
            let keys: Vec<String> = entries.iter().map(|(key, _)| format!("`{key}`")).collect();
            keys.join(", ")
        }
    }
}

impl From<&Json> for minijinja::Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::from(()),
            Json::Bool(value) => Self::from(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::from(number),
                (None, Some(number)) => Self::from(number),
                (None, None) => Self::from(number.as_f64()),
            },
            Json::Text(text) => Self::from(text.as_str()),
            Json::List(values) => Self::from(values.iter().map(Self::from).collect::<Vec<_>>()),
            Json::Object(object) => of_object(object),
        }
    }
}

/// An object as templates see it.
pub(super) fn of_object(object: &Object) -> minijinja::Value {
    let entries = object.iter().map(|(key, value)| (key.as_str(), value.into()));
    minijinja::Value::from_pairs::<_, &str, minijinja::Value>(entries)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of JSON")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Text(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Json, E> {
                Ok(Json::Text(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = access.next_element()? {
                    values.push(value);
                }
                Ok(Json::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
                let mut object: Object = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    object.push(entry);
                }
                match twice(&object) {
                    None => Ok(Json::Object(object)),
                    Some(key) => Err(A::Error::custom(format_args!("the key `{key}` comes twice"))),
                }
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

/// A key that an object has twice.
fn twice(object: &Object) -> Option<&str> {
    let mut keys: Vec<&str> = object.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_of(text: &str) -> String {
        let mut canonical = String::new();
        serde_json::from_str::<Json>(text).unwrap().canonical(&mut canonical);
        canonical
    }

    #[test]
    fn order_and_nulls_do_not_show_and_everything_else_does() {
        let one = canonical_of(r#"{"b": [1, {"x": "é\n"}], "a": true, "n": null}"#);
        assert_eq!(one, canonical_of(r#"{"a":true,"b":[1,{"x":"\u00e9\n"}]}"#));
        for other in [
            r#"{"b": [1, {"x": "é"}], "a": true}"#,
            r#"{"b": [1, {"x": "é\n"}], "a": false}"#,
            r#"{"b": [1, null, {"x": "é\n"}], "a": true}"#,
            r#"{"b": [2, {"x": "é\n"}], "a": true}"#,
            r#"{"b": [1, {"x": "é\n"}]}"#,
        ] {
            assert_ne!(one, canonical_of(other), "{other}");
        }
    }

    #[test]
    fn objects_keep_their_order() {
        let text = r#"{"z":1,"a":{"y":[],"b":null},"m":-2.5,"t":"x"}"#;
        let value: Json = serde_json::from_str(text).unwrap();
        // As the template engine prints them.
        let expected = "{'z': 1, 'a': {'y': [], 'b': None}, 'm': -2.5, 't': 'x'}";
        assert_eq!(minijinja::Value::from(&value).to_string(), expected);
        let Json::Object(object) = value else { panic!("no object") };
        assert_eq!(get(&object, "t"), Some(&Json::Text("x".to_owned())));
        assert_eq!(get(&object, "b"), None);
    }
    #[test]
    fn a_key_that_comes_twice_is_refused_wherever_it_is() {
        for text in [r#"{"a":1,"b":2,"a":1}"#, r#"[{"x":{"a":1,"\u0061":2}}]"#] {
            let error = serde_json::from_str::<Json>(text).unwrap_err().to_string();
            assert!(error.starts_with("the key `a` comes twice at line 1 column "), "{error}");
        }
        assert!(serde_json::from_str::<Json>(r#"[{"a":1,"A":1},{"a":1}]"#).is_ok());
    }
}

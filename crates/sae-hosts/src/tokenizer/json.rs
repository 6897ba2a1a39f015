//! What `tokenizer.json` says, beside what the `tokenizers` crate makes of it.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::models::ModelWrapper;
use tokenizers::{AddedToken, Tokenizer};

use crate::{Error, Result};

/// Keys of earlier forms of parts that the crate reads and does not write.
const EARLIER: [&str; 2] = ["add_prefix_space", "str_rep"];

/// Reads a `tokenizer.json`: the tokenizer, and the file's content. Truncation and padding that it
/// is set to are cleared.
///
/// # Errors
/// [`Error::File`] if it holds what the tokenizer would not do.
pub(super) fn read(path: &Path) -> Result<(Tokenizer, Value)> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let mut tokenizer = Tokenizer::from_bytes(&bytes)
        .map_err(|error| Error::file(path, "top level", "a tokenizer", error))?;
    tokenizer.with_truncation(None).expect("no truncation is always in range");
    tokenizer.with_padding(None);
    let json: Value = sae_config::json_from_slice(&bytes)
        .map_err(|error| Error::file(path, "top level", "JSON", error))?;
    if let ModelWrapper::BPE(bpe) = tokenizer.get_model()
        && let Some(dropout) = bpe.dropout.filter(|dropout| *dropout != 0.0)
    {
        return Err(Error::file(path, "model.dropout", "null or 0: ids without chance", dropout));
    }
    // The crate gives ids of its own to added tokens whose ids it does not like.
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let content = token["content"].as_str().unwrap_or_default();
        let own = tokenizer.token_to_id(content);
        if own.map(Value::from).as_ref() != token.get("id") {
            let field = format!("added_tokens: id of `{content}`");
            let expected = own.map_or("none".to_owned(), |own| own.to_string());
            return Err(Error::file(path, field, expected, &token["id"]));
        }
    }
    match unread(&tokenizer, &json) {
        Some((key, value)) => Err(Error::file(path, key, "a key that is known", value)),
        None => Ok((tokenizer, json)),
    }
}

/// A key, with its path and value, that the crate does not read.
fn unread<'a>(tokenizer: &Tokenizer, json: &'a Value) -> Option<(String, &'a Value)> {
    let model: &[&str] = match tokenizer.get_model() {
        ModelWrapper::BPE(_) => &[
            "dropout",
            "unk_token",
            "continuing_subword_prefix",
            "end_of_word_suffix",
            "fuse_unk",
            "byte_fallback",
            "ignore_merges",
            "merges",
        ],
        ModelWrapper::WordPiece(_) => {
            &["unk_token", "continuing_subword_prefix", "max_input_chars_per_word"]
        }
        ModelWrapper::WordLevel(_) => &["unk_token"],
        ModelWrapper::Unigram(_) => &["unk_id", "byte_fallback"],
    };
    let known = |key: &str| key == "type" || key == "vocab" || model.contains(&key);
    let of_model =
        others(&json["model"], &known).map(|(key, value)| (format!("model.{key}"), value));
    let tokens = json["added_tokens"].as_array().into_iter().flatten();
    let of_tokens = || {
        tokens
            .clone()
            .find_map(|token| others(token, &is_known))
            .map(|(key, value)| (format!("added_tokens: {key}"), value))
    };
    // Other parts are compared with what the crate would write of them.
    let of_parts = || {
        let written = [
            ("normalizer", serde_json::to_value(tokenizer.get_normalizer())),
            ("pre_tokenizer", serde_json::to_value(tokenizer.get_pre_tokenizer())),
            ("post_processor", serde_json::to_value(tokenizer.get_post_processor())),
        ];
        written.into_iter().find_map(|(part, written)| lost(&json[part], &written.ok()?, part))
    };
    of_model.or_else(of_tokens).or_else(of_parts)
}

/// A key of an object that is not known and not null.
fn others<'a>(object: &'a Value, known: &dyn Fn(&str) -> bool) -> Option<(&'a str, &'a Value)> {
    let entries = object.as_object().into_iter().flatten();
    let mut entries = entries.map(|(key, value)| (key.as_str(), value));
    entries.find(|(key, value)| !value.is_null() && !known(key))
}

/// A key that is lost when a part is written again.
fn lost<'a>(read: &'a Value, written: &Value, path: &str) -> Option<(String, &'a Value)> {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => read.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match written.get(key) {
                Some(written) => lost(value, written, &path),
                None if value.is_null() || EARLIER.contains(&key.as_str()) => None,
                None => Some((path, value)),
            }
        }),
        (Value::Array(read), Value::Array(written)) => {
            let mut both = read.iter().zip(written).enumerate();
            both.find_map(|(n, (read, written))| lost(read, written, &format!("{path}[{n}]")))
        }
        _ => None,
    }
}

/// An added token as the files beside `tokenizer.json` write it: an object, or its content alone,
/// which is a special token's then.
pub(super) fn added_token(value: &Value) -> Result<AddedToken, String> {
    if let Value::String(content) = value {
        return Ok(AddedToken::from(content, true));
    }
    let Value::Object(object) = value else {
        return Err(format!("{value}"));
    };
    let Some(Value::String(content)) = object.get("content") else {
        return Err(format!("{value} without `content`"));
    };
    let flag = |key: &str, default: bool| match object.get(key) {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(format!("{key} {other}")),
    };
    let special = flag("special", false)?;
    let token = AddedToken::from(content, special)
        .single_word(flag("single_word", false)?)
        .lstrip(flag("lstrip", false)?)
        .rstrip(flag("rstrip", false)?)
        .normalized(flag("normalized", !special)?);
    match object.keys().find(|key| !is_known(key)) {
        Some(key) => Err(format!("the unknown key {key}")),
        None => Ok(token),
    }
}

fn is_known(key: &str) -> bool {
    let flags = ["single_word", "lstrip", "rstrip", "normalized", "special"];
    matches!(key, "content" | "id" | "__type") || flags.contains(&key)
}

/// Whether a part of `tokenizer.json` puts a space before a text.
pub(super) fn adds_space(json: &Value) -> bool {
    any_part(json, &|part| {
        let adds = |key: &str, default| part.get(key).map_or(default, |v| v == &Value::Bool(true));
        match part["type"].as_str() {
            Some("ByteLevel") => adds("add_prefix_space", true),
            Some("Metaspace") => match part.get("prepend_scheme").and_then(Value::as_str) {
                Some(scheme) => scheme != "never",
                None => adds("add_prefix_space", true),
            },
            Some("Prepend") => true,
            _ => false,
        }
    })
}

/// Whether a part of `tokenizer.json` makes a text lower case.
pub(super) fn lowers(json: &Value) -> bool {
    any_part(json, &|part| match part["type"].as_str() {
        Some("BertNormalizer") => part["lowercase"] == true,
        Some("Lowercase") => true,
        _ => false,
    })
}

/// Whether a normaliser or pre-tokenizer, alone or in a sequence, is of a kind.
fn any_part(json: &Value, is: &dyn Fn(&Value) -> bool) -> bool {
    fn parts(value: &Value) -> Vec<&Value> {
        let inner = ["normalizers", "pretokenizers"].iter().filter_map(|key| value[key].as_array());
        let inner = inner.flatten().flat_map(parts);
        std::iter::once(value).chain(inner).collect()
    }
    let wholes = ["normalizer", "pre_tokenizer"].map(|key| &json[key]);
    wholes.into_iter().flat_map(parts).any(is)
}

/// The object that a JSON file holds; an empty one if there is no file.
pub(super) fn object(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() {
        return Ok(Map::new());
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    sae_config::json_from_slice(&bytes)
        .map_err(|error| Error::file(path, "top level", "a JSON object", error))
}

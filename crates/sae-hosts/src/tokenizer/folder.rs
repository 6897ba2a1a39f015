//! `tokenizer.json` and the files beside it that change what it does.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::models::ModelWrapper;
use tokenizers::{AddedToken, Tokenizer};

use super::HostTokenizer;
use crate::{Error, Result};

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// Keys of `tokenizer_config.json` that cannot change the ids of a text: names, classes and
/// defaults of calls that are not made here, settings of chats, of slow tokenizers and of decoding.
const IGNORED: &[&str] = &[
    "_commit_hash",
    "add_eos_token",
    "additional_chat_templates",
    "auto_map",
    "backend",
    "chat_template",
    "clean_text",
    "clean_up_tokenization_spaces",
    "default_chat_template",
    "device_map",
    "do_basic_tokenize",
    "errors",
    "from_slow",
    "is_local",
    "language",
    "legacy",
    "local_files_only",
    "max_length",
    "max_len",
    "model_input_names",
    "model_max_length",
    "model_specific_special_tokens",
    "name_or_path",
    "never_split",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding",
    "padding_side",
    "processor_class",
    "response_schema",
    "return_token_type_ids",
    "sp_model_kwargs",
    "spaces_between_special_tokens",
    "special_tokens_map_file",
    "stride",
    "tokenizer_class",
    "tokenizer_file",
    "tokenizer_type",
    "tool_parser_type",
    "trim_offsets",
    "truncation",
    "truncation_side",
    "truncation_strategy",
    "use_default_system_prompt",
    "use_fast",
    "verbose",
    "vocab_size",
];

/// Reads a `tokenizer.json` with the files beside it.
pub(super) fn read(path: &Path) -> Result<HostTokenizer> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let inner = Tokenizer::from_bytes(&bytes)
        .map_err(|error| Error::file(path, "top level", "a tokenizer", error))?;
    if let ModelWrapper::BPE(bpe) = inner.get_model()
        && let Some(dropout) = bpe.dropout.filter(|dropout| *dropout != 0.0)
    {
        return Err(Error::file(path, "model.dropout", "null or 0: ids without chance", dropout));
    }
    let json: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::file(path, "top level", "JSON", error))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reader = Reader { inner, json, bos: None, adds_bos: None };
    reader.config(&folder.join(CONFIG))?;
    reader.special_tokens(&folder.join(SPECIAL))?;
    reader.added_tokens(&folder.join(ADDED))?;
    reader.finish(path, &folder.join("config.json"))
}

/// A tokenizer while the files beside it are read.
struct Reader {
    inner: Tokenizer,
    /// `tokenizer.json` as it stands.
    json: Value,
    bos: Option<u32>,
    adds_bos: Option<bool>,
}

impl Reader {
    fn config(&mut self, path: &Path) -> Result<()> {
        let config = object(path)?;
        let wrong =
            |key: &str, expected: &str, got: &Value| Err(Error::file(path, key, expected, got));
        for (key, value) in &config {
            match (key.as_str(), value) {
                (key, _) if IGNORED.contains(&key) => {}
                (_, Value::Null) => {}
                ("added_tokens_decoder", Value::Object(tokens)) => self.decoder(path, tokens)?,
                ("add_bos_token", Value::Bool(adds)) => self.adds_bos = Some(*adds),
                ("split_special_tokens", Value::Bool(split)) => {
                    self.inner.set_encode_special_tokens(*split);
                }
                ("add_prefix_space", Value::Bool(adds)) if *adds == adds_space(&self.json) => {}
                ("do_lower_case", Value::Bool(lower)) if *lower == lowers(&self.json) => {}
                ("strip_accents" | "tokenize_chinese_chars", Value::Bool(_)) => {
                    let own = match key.as_str() {
                        "strip_accents" => "strip_accents",
                        _ => "handle_chinese_chars",
                    };
                    let normalizer = &self.json["normalizer"];
                    if normalizer["type"] == "BertNormalizer" && normalizer[own] != *value {
                        let expected = format!("`{own}` of tokenizer.json");
                        return wrong(key, &expected, value);
                    }
                }
                ("fix_mistral_regex", Value::Bool(false)) => {}
                ("add_prefix_space" | "do_lower_case", _) => {
                    return wrong(key, "what tokenizer.json does", value);
                }
                (key, _) if names_tokens(key) => {}
                _ => return wrong(key, "a key that is known", value),
            }
        }
        // Named tokens come last: those that `added_tokens_decoder` lists keep its flags.
        self.named(path, &config)
    }

    /// `added_tokens_decoder`: tokens of `tokenizer.json` with the flags given here.
    fn decoder(&mut self, path: &Path, tokens: &Map<String, Value>) -> Result<()> {
        for (id, value) in tokens {
            let field = || format!("added_tokens_decoder.{id}");
            let token: AddedToken = serde_json::from_value(value.clone())
                .map_err(|error| Error::file(path, field(), "an added token", error))?;
            self.check_id(path, &field(), &token.content, id.parse().ok())?;
            let now = self.inner.get_added_tokens_decoder();
            if !now.values().any(|own| same(own, &token)) {
                self.add(token);
            }
        }
        Ok(())
    }

    fn special_tokens(&mut self, path: &Path) -> Result<()> {
        let map = object(path)?;
        match map.keys().find(|key| !names_tokens(key)) {
            Some(key) => Err(Error::file(path, key.as_str(), "a key that is known", &map[key])),
            None => self.named(path, &map),
        }
    }

    fn added_tokens(&mut self, path: &Path) -> Result<()> {
        for (token, id) in &object(path)? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            self.check_id(path, token, token, id)?;
        }
        Ok(())
    }

    /// Tokens by their roles are special; that of `bos_token` is kept.
    fn named(&mut self, path: &Path, map: &Map<String, Value>) -> Result<()> {
        for (key, value) in map.iter().filter(|(key, _)| names_tokens(key)) {
            for content in contents(value) {
                let Some(id) = self.inner.token_to_id(content) else {
                    let expected = "tokens of tokenizer.json";
                    return Err(Error::file(path, key.as_str(), expected, content));
                };
                if key == "bos_token" && self.bos.is_none() {
                    self.bos = Some(id);
                }
                let added = self.inner.get_added_tokens_decoder();
                if !added.values().any(|token| token.content == content) {
                    self.add(AddedToken::from(content, true));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, token: AddedToken) {
        if token.special {
            self.inner.add_special_tokens(&[token]);
        } else {
            self.inner.add_tokens(&[token]);
        }
    }

    fn check_id(&self, path: &Path, field: &str, token: &str, id: Option<u32>) -> Result<()> {
        match self.inner.token_to_id(token) {
            Some(own) if Some(own) == id => Ok(()),
            own => {
                let own = own.map_or("none".to_owned(), |own| own.to_string());
                let expected = format!("the id of `{token}` in tokenizer.json, {own}");
                let got = id.map_or("another".to_owned(), |id| id.to_string());
                Err(Error::file(path, field, expected, got))
            }
        }
    }

    fn finish(self, path: &Path, config: &Path) -> Result<HostTokenizer> {
        let leads = leading(&self.inner, path)?;
        let declared = match self.bos {
            Some(bos) => Some(bos),
            None => of_host(config).filter(|id| self.inner.id_to_token(*id).is_some()),
        };
        let bos = leads.or(declared);
        if self.adds_bos == Some(true) && bos.is_none() {
            let config = path.with_file_name(CONFIG);
            return Err(Error::file(&config, "add_bos_token", "false without a `bos_token`", true));
        }
        let adds_bos = self.adds_bos.unwrap_or(leads.is_some());
        Ok(HostTokenizer::new(self.inner, bos, adds_bos))
    }
}

/// The token that the post-processor puts before a text.
fn leading(tokenizer: &Tokenizer, path: &Path) -> Result<Option<u32>> {
    let encoding = tokenizer
        .encode("a", true)
        .map_err(|error| Error::Tokenizer { message: error.to_string() })?;
    let own = tokenizer
        .encode("a", false)
        .map_err(|error| Error::Tokenizer { message: error.to_string() })?;
    let (with, without) = (encoding.get_ids(), own.get_ids());
    let at = with.windows(without.len().max(1)).position(|ids| ids == without);
    match at.map(|at| &with[..at]) {
        Some([]) => Ok(None),
        Some([id]) => Ok(Some(*id)),
        _ if with == without => Ok(None),
        _ => {
            let expected = "at most one token before a text";
            Err(Error::file(path, "post_processor", expected, format!("{with:?} for `a`")))
        }
    }
}

/// `bos_token_id` of the host's settings.
fn of_host(config: &Path) -> Option<u32> {
    let settings = object(config).ok()?;
    settings.get("bos_token_id")?.as_u64()?.try_into().ok()
}

/// The object that a JSON file holds; an empty one if there is no file.
fn object(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() {
        return Ok(Map::new());
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::file(path, "top level", "a JSON object", error))
}

/// Whether a key gives tokens a role, as `bos_token` and `additional_special_tokens` do.
fn names_tokens(key: &str) -> bool {
    key.ends_with("_token") || key.ends_with("_special_tokens")
}

/// The texts of tokens: one, a list or named ones, each a string or an object with `content`.
fn contents(value: &Value) -> Vec<&str> {
    match value {
        Value::String(content) => vec![content],
        Value::Array(tokens) => tokens.iter().flat_map(contents).collect(),
        Value::Object(token) => match token.get("content") {
            Some(content) => contents(content),
            None => token.values().flat_map(contents).collect(),
        },
        _ => vec![],
    }
}

/// Equality of all fields; that of the crate is of contents alone.
fn same(left: &AddedToken, right: &AddedToken) -> bool {
    let flags = |t: &AddedToken| (t.single_word, t.lstrip, t.rstrip, t.normalized, t.special);
    left.content == right.content && flags(left) == flags(right)
}

/// Whether a part of `tokenizer.json` puts a space before a text.
fn adds_space(json: &Value) -> bool {
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
fn lowers(json: &Value) -> bool {
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

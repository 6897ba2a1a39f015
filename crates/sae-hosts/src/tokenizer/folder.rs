//! `tokenizer.json` and the files beside it that change what it does.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::json::{added_token, adds_space, lowers, object};
use super::lead::{Declared, of_post_processor};
use super::{ChatSource, Dispute, HostTokenizer, json};
use crate::{Error, Result};

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// Keys of `tokenizer_config.json` that cannot change the ids of a text: names, defaults of calls
/// that are not made here, settings of chats, of slow tokenizers and of decoding.
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
    "return_tensors",
    "return_token_type_ids",
    "sp_model_kwargs",
    "spaces_between_special_tokens",
    "special_tokens_map_file",
    "stride",
    "tokenizer_file",
    "tokenizer_type",
    "tool_parser_type",
    "transformers_version",
    "trim_offsets",
    "truncation",
    "truncation_side",
    "truncation_strategy",
    "trust_remote_code",
    "use_default_system_prompt",
    "use_fast",
    "verbose",
    "vocab_size",
];

/// Reads a `tokenizer.json` with the files beside it.
pub(super) fn read(path: &Path) -> Result<HostTokenizer> {
    let (inner, json) = json::read(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reader = Reader { inner, json, bos: None, eos: None, roles: BTreeMap::new() };
    let config_path = folder.join(CONFIG);
    let config = object(&config_path)?;
    let declared = Declared::read(&config_path, &config)?;
    reader.config(&config_path, &config)?;
    // Tokens that the config lists with their flags are all that counts, as in transformers.
    let has_list = config.get("added_tokens_decoder").is_some_and(|list| !list.is_null());
    reader.special_tokens(&folder.join(SPECIAL), !has_list)?;
    reader.named(&config_path, &config)?;
    reader.added_tokens(&folder.join(ADDED), !has_list)?;
    let chat = ChatSource::of_folder(&config_path, &config, std::mem::take(&mut reader.roles))?;
    reader.finish(path, declared, &folder.join("config.json"), chat)
}

/// A tokenizer while the files beside it are read.
struct Reader {
    inner: Tokenizer,
    /// `tokenizer.json` as it stands.
    json: Value,
    bos: Option<u32>,
    eos: Option<u32>,
    /// The tokens of roles that one token has.
    roles: BTreeMap<String, String>,
}

impl Reader {
    fn config(&mut self, path: &Path, config: &Map<String, Value>) -> Result<()> {
        for (key, value) in config {
            let wrong = |expected: &str| Err(Error::file(path, key.as_str(), expected, value));
            match (key.as_str(), value) {
                (key, _) if IGNORED.contains(&key) => {}
                (_, Value::Null) => {}
                ("add_bos_token" | "tokenizer_class", _) => {}
                ("added_tokens_decoder", Value::Object(tokens)) => self.decoder(path, tokens)?,
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
                        return wrong(&format!("`{own}` of tokenizer.json"));
                    }
                }
                ("fix_mistral_regex", Value::Bool(false)) => {}
                ("add_prefix_space" | "do_lower_case", _) => {
                    return wrong("what tokenizer.json does");
                }
                ("added_tokens_decoder" | "split_special_tokens", _) => {
                    return wrong("tokens by their ids, or true or false");
                }
                (key, _) if names_tokens(key) => {}
                _ => return wrong("a key that is known"),
            }
        }
        Ok(())
    }

    /// `added_tokens_decoder`: tokens of `tokenizer.json` with the flags given here.
    fn decoder(&mut self, path: &Path, tokens: &Map<String, Value>) -> Result<()> {
        for (id, value) in tokens {
            let field = format!("added_tokens_decoder.{id}");
            let token = added_token(value)
                .map_err(|got| Error::file(path, field.as_str(), "an added token", got))?;
            self.check_id(path, &field, &token.content, id.parse().ok())?;
            let own = self.added(&token.content);
            // Versions of `tokenizers` differ in whether the flag is taken back.
            if own.is_some_and(|own| own.normalized && !token.normalized)
                && self.inner.get_normalizer().is_some()
            {
                let expected = "`normalized` of tokenizer.json";
                return Err(Error::file(path, field, expected, token.normalized));
            }
            self.set(token);
        }
        Ok(())
    }

    fn special_tokens(&mut self, path: &Path, counts: bool) -> Result<()> {
        let map = object(path)?;
        match map.keys().find(|key| !names_tokens(key)) {
            Some(key) => Err(Error::file(path, key.as_str(), "a key that is known", &map[key])),
            None if counts => self.named(path, &map),
            None => Ok(()),
        }
    }

    fn added_tokens(&mut self, path: &Path, counts: bool) -> Result<()> {
        for (token, id) in &object(path)? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            self.check_id(path, token, token, id)?;
            if counts && self.added(token).is_none() {
                self.set(AddedToken::from(token, false));
            }
        }
        Ok(())
    }

    /// Tokens by their roles are special; that of `bos_token` is kept.
    fn named(&mut self, path: &Path, map: &Map<String, Value>) -> Result<()> {
        for (key, value) in map.iter().filter(|(key, value)| names_tokens(key) && !value.is_null())
        {
            let tokens = tokens(value)
                .map_err(|got| Error::file(path, key.as_str(), "tokens of tokenizer.json", got))?;
            if let ([token], false) = (tokens.as_slice(), value.is_array()) {
                self.roles.entry(key.clone()).or_insert_with(|| token.content.clone());
            }
            for token in tokens {
                let Some(id) = self.inner.token_to_id(&token.content) else {
                    let expected = "tokens of tokenizer.json";
                    return Err(Error::file(path, key.as_str(), expected, &token.content));
                };
                if key == "bos_token" && self.bos.is_none() {
                    self.bos = Some(id);
                }
                if key == "eos_token" && self.eos.is_none() {
                    self.eos = Some(id);
                }
                let mut token = self.added(&token.content).unwrap_or(token);
                token.special = true;
                self.set(token);
            }
        }
        Ok(())
    }

    /// The added token of a content.
    fn added(&self, content: &str) -> Option<AddedToken> {
        let added = self.inner.get_added_tokens_decoder();
        added.into_values().find(|token| token.content == content)
    }

    /// Adds a token, or gives one that is there other flags.
    fn set(&mut self, token: AddedToken) {
        if self.added(&token.content).as_ref() == Some(&token) {
            return;
        }
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

    fn finish(
        mut self,
        path: &Path,
        declared: Declared,
        config: &Path,
        chat: ChatSource,
    ) -> Result<HostTokenizer> {
        let leads = of_post_processor(&self.inner, path)?;
        if let Some(token) = leads.and_then(|id| self.inner.id_to_token(id)) {
            let mut token = self.added(&token).unwrap_or(AddedToken::from(token, true));
            token.special = true;
            self.set(token);
        }
        let added = self.inner.get_added_tokens_decoder();
        let is_special = |id: &u32| added.get(id).is_some_and(|token| token.special);
        let of_host = |key| of_host(config, key).filter(is_special);
        let bos = leads.or(self.bos).or_else(|| of_host("bos_token_id"));
        let eos = self.eos.or_else(|| of_host("eos_token_id"));
        let (adds, dispute) = match declared.adds(leads, self.bos) {
            Ok(adds) => (adds, None),
            Err(got) => (false, Some(Dispute { path: path.with_file_name(CONFIG), got })),
        };
        let tokenizer = HostTokenizer::new(self.inner, bos, adds).with_chat(eos, chat);
        Ok(HostTokenizer { dispute, ..tokenizer })
    }
}

/// A token of the host's settings, where there is one and not several.
fn of_host(config: &Path, key: &str) -> Option<u32> {
    let settings = object(config).ok()?;
    settings.get(key)?.as_u64()?.try_into().ok()
}

/// Whether a key gives tokens a role, as `bos_token` and `additional_special_tokens` do.
fn names_tokens(key: &str) -> bool {
    let is_switch = matches!(key, "add_bos_token" | "add_eos_token" | "split_special_tokens");
    !is_switch && (key.ends_with("_token") || key.ends_with("_special_tokens"))
}

/// The tokens of a role: one, a list, or named ones.
fn tokens(value: &Value) -> Result<Vec<AddedToken>, String> {
    match value {
        Value::Array(tokens) => tokens.iter().map(added_token).collect(),
        Value::Object(tokens) if !tokens.contains_key("content") => {
            tokens.values().map(added_token).collect()
        }
        token => Ok(vec![added_token(token)?]),
    }
}

//! Whether a folder's own tokenizer puts a token before a text.
//!
//! In most cases the post-processor of `tokenizer.json` decides. But version 4 of transformers has
//! classes that decide by `add_bos_token`, or by a default of theirs where the key is absent, and
//! version 5 has two that decide by themselves. Where versions differ, neither is taken.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::{Error, Result};

/// What `tokenizer_config.json` says of a leading token.
#[derive(Debug, Default)]
pub(super) struct Declared {
    add_bos_token: Option<bool>,
    class: Option<String>,
}

impl Declared {
    /// # Errors
    /// [`Error::File`] if a key is of another type than it is to be.
    pub(super) fn read(path: &Path, config: &Map<String, Value>) -> Result<Self> {
        let wrong = |key, expected, got: &Value| Err(Error::file(path, key, expected, got));
        let add_bos_token = match config.get("add_bos_token") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(adds)) => Some(*adds),
            Some(other) => return wrong("add_bos_token", "true or false", other),
        };
        let class = match config.get("tokenizer_class") {
            None | Some(Value::Null) => None,
            Some(Value::String(class)) => Some(class.clone()),
            Some(other) => return wrong("tokenizer_class", "a name", other),
        };
        Ok(Self { add_bos_token, class })
    }

    /// Whether a token is put before a text, where the post-processor has `leads` there and the
    /// folder names `bos`; what is doubtful about it otherwise.
    pub(super) fn adds(&self, leads: Option<u32>, bos: Option<u32>) -> Result<bool, String> {
        let class = self.class.as_deref().unwrap_or("none");
        let given = self.add_bos_token;
        let (version_4, version_5) = match class.strip_suffix("Fast").unwrap_or(class) {
            "LlamaTokenizer" | "GemmaTokenizer" | "CohereTokenizer" => {
                // Version 4 has the `bos_token` in any case.
                if leads.is_some() && bos.is_some() && leads != bos {
                    return Err(format!("a `bos_token` {bos:?}, and {leads:?} before a text"));
                }
                (given.unwrap_or(true), leads.is_some())
            }
            "CodeLlamaTokenizer" => (given.unwrap_or(true), true),
            "GPTNeoXTokenizer" => (given.unwrap_or(false), false),
            // These do not read the key, but a folder should not contradict itself.
            _ => (given.unwrap_or(leads.is_some()), leads.is_some()),
        };
        if version_4 == version_5 && (!version_4 || leads.or(bos).is_some()) {
            return Ok(version_4);
        }
        let given = given.map_or("none".to_owned(), |given| given.to_string());
        let puts = if leads.is_some() { "one" } else { "none" };
        Err(format!("{given}, `tokenizer_class` {class}, and a post-processor that puts {puts}"))
    }
}

/// The token that the post-processor puts before a text.
///
/// # Errors
/// [`Error::File`] if it puts several there.
pub(super) fn of_post_processor(tokenizer: &Tokenizer, path: &Path) -> Result<Option<u32>> {
    let ids = |special| -> Result<Vec<u32>> {
        let encoding = tokenizer
            .encode("a", special)
            .map_err(|error| Error::Tokenizer { message: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    };
    let (with, without) = (ids(true)?, ids(false)?);
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

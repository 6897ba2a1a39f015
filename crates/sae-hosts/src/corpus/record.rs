//! The records of a part of a file, whatever its format.

use std::fmt::Display;
use std::path::Path;

use super::json::{self, Json, Object};
use crate::{Error, Result};

/// What a file holds of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// A text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
    /// The messages of a chat.
    Chat(Vec<Object>),
}

/// The records of a section in order.
pub(super) trait Records: Send + std::fmt::Debug {
    /// The next record; `Err` within for one that is damaged while those after it can be read,
    /// outside where nothing more of the section can.
    fn next(&mut self) -> Result<Option<Result<Record>>>;

    /// The share of the section that is read, from 0 to 1.
    fn fraction(&self) -> f64;
}

impl Record {
    /// The record that a value of JSON is, a chat if `is_chat`; else what came.
    pub(super) fn from_json(value: Json, is_chat: bool) -> Result<Self, String> {
        match value {
            Json::Text(text) if !is_chat => Ok(Self::Text(text)),
            Json::List(values) if is_chat => {
                let message = |value| match value {
                    Json::Object(message) => Ok(message),
                    other => Err(format!("{} among them", other.brief())),
                };
                values.into_iter().map(message).collect::<Result<_, _>>().map(Self::Chat)
            }
            Json::List(values) => values.iter().map(id).collect::<Result<_, _>>().map(Self::Ids),
            other => Err(other.brief()),
        }
    }

    /// What is expected of a field.
    pub(super) const fn expected(is_chat: bool) -> &'static str {
        if is_chat { "a list of messages" } else { "a text or a list of token ids" }
    }

    /// A hash of the content alone.
    pub(super) fn hash(&self) -> blake3::Hash {
        match self {
            Self::Text(text) => blake3::hash(text.as_bytes()),
            Self::Ids(ids) => {
                let mut hasher = blake3::Hasher::new();
                for ids in ids.chunks(1 << 12) {
                    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                    hasher.update(&bytes);
                }
                hasher.finalize()
            }
            Self::Chat(messages) => {
                let mut text = String::new();
                messages.iter().for_each(|message| json::canonical(message, &mut text));
                blake3::hash(text.as_bytes())
            }
        }
    }
}

/// A token id in a list.
fn id(value: &Json) -> Result<u32, String> {
    let id = match value {
        Json::Number(number) => number.as_u64().and_then(|id| u32::try_from(id).ok()),
        _ => None,
    };
    id.ok_or_else(|| match value {
        Json::Object(_) => "a list of objects (`chat = {}` reads chats)".to_owned(),
        other => format!("{} in a list", other.brief()),
    })
}

/// An error of one record of a file.
pub(super) fn at_record(
    path: &Path,
    place: impl Display,
    expected: impl Display,
    got: impl Display,
) -> Error {
    Error::file(path, place.to_string(), expected, got)
}

//! A corpus: where documents come from, which of them count, in what order, and how contexts are
//! cut of them.

mod format;
mod reading;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub use format::{ChatConfig, CorpusFormat, TokenType};
pub use reading::{Damaged, Packing, Separator, ShuffleConfig, Split};

/// What a path begins with that names a repository of the hub: `hf:owner/name[@revision]`.
pub const HUB_PREFIX: &str = "hf:";

/// The share of the documents that is held out where a split names none.
const DEFAULT_HELD_OUT: f64 = 0.05;

/// A corpus of documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// Files and folders, local ones or `hf:owner/name[@revision]`, in the order in which they are
    /// read. One path may be written without brackets.
    #[serde(with = "one_or_more")]
    pub path: Vec<String>,
    /// Which files of a folder are read: a pattern of their paths in it, with `*` for any part of a
    /// name, `?` for a character of it and `**` for any folders. All of the format if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// The format; that of the files' endings if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<CorpusFormat>,
    /// The field or column of the document, with dots between the fields of nested objects of JSON:
    /// `text` if absent, `messages` for chats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Width of the token ids in `.bin` files, which do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_type: Option<TokenType>,
    /// The token that ends a document in files of tokens without lines; the host's own
    /// end-of-text token if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_end: Option<u32>,
    /// Documents are chats, written out by the host's chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatConfig>,
    /// Whether a context holds tokens of one document or of several.
    #[serde(default)]
    pub packing: Packing,
    /// What stands between two documents in a packed context.
    #[serde(default)]
    pub separator: Separator,
    /// Documents in random order; in that of the files if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffle: Option<ShuffleConfig>,
    /// The part of the documents that is read; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// The share of the documents that is held out, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f64>,
    /// What is done with damaged files and documents.
    #[serde(default)]
    pub damaged: Damaged,
    /// Tokens taken of each document at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_document_tokens: Option<u64>,
    /// Tokens taken in all at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
}

impl CorpusConfig {
    /// A corpus of one path, with every setting by default.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: vec![path.into()], ..Self::default() }
    }

    /// The field or column of the document.
    pub fn field(&self) -> &str {
        let default = if self.chat.is_some() { "messages" } else { "text" };
        self.field.as_deref().unwrap_or(default)
    }

    /// The part of the documents that is read, and the share that is held out.
    pub fn parts(&self) -> Option<(Split, f64)> {
        self.split.map(|split| (split, self.held_out.unwrap_or(DEFAULT_HELD_OUT)))
    }

    /// Checks what can be checked without the files; `section` is where the file has this, such as
    /// `data.corpus`.
    ///
    /// # Errors
    /// [`Error::Value`] with the first key that is out of range or contradicts another.
    pub fn check(&self, section: &str) -> Result<()> {
        let key = |name: &str| format!("{section}.{name}");
        let value = |name: &str, expected: &str, got: &dyn std::fmt::Display| {
            Err(Error::value(key(name), expected, got))
        };
        if self.path.is_empty() || self.path.iter().any(String::is_empty) {
            return value("path", "a file, a folder or `hf:owner/name`", &"nothing");
        }
        if let Some(share) = self.held_out {
            if !(share > 0.0 && share < 1.0) {
                return value("held_out", "more than 0 and less than 1", &share);
            }
            if self.split.is_none() {
                let expected = "`split` beside it, which says what part is read";
                return value("held_out", expected, &share);
            }
        }
        if let Some(ShuffleConfig { window: 0, .. }) = self.shuffle {
            return value("shuffle.window", "at least 1", &0);
        }
        for (name, limit) in
            [("max_document_tokens", self.max_document_tokens), ("max_tokens", self.max_tokens)]
        {
            if limit == Some(0) {
                return value(name, "at least 1", &0);
            }
        }
        if self.separator != Separator::Auto && self.packing != Packing::Packed {
            let got = format!("{} without it", self.separator.name());
            return value("separator", "`packing = \"packed\"` beside it", &got);
        }
        let is_tokens = matches!(self.format, Some(CorpusFormat::Npy | CorpusFormat::Bin));
        let is_text = self.format == Some(CorpusFormat::Text);
        if is_tokens && (self.field.is_some() || self.chat.is_some())
            || is_text && self.field.is_some()
        {
            let name = if self.chat.is_some() { "chat" } else { "field" };
            return value(name, "`format` jsonl or parquet beside it", &"another format");
        }
        Ok(())
    }

    /// Lets relative local paths start at `folder`.
    pub fn root_paths(&mut self, folder: &Path) {
        for path in self.path.iter_mut().filter(|path| !path.starts_with(HUB_PREFIX)) {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
    }
}

/// One string, or a list of them.
mod one_or_more {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a path or a list of paths")]
    enum Paths {
        One(String),
        More(Vec<String>),
    }

    pub(super) fn serialize<S: Serializer>(
        paths: &[String],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match paths {
            [path] => path.serialize(serializer),
            paths => paths.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<String>, D::Error> {
        Ok(match Paths::deserialize(deserializer)? {
            Paths::One(path) => vec![path],
            Paths::More(paths) => paths,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<CorpusConfig, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "path = 'a.txt'",
            "path = ['a', 'hf:owner/name@main']\nfiles = 'data/train-*'\nformat = 'parquet'",
            "path = 'a'\nsplit = 'held_out'\nheld_out = 0.1\nshuffle = { seed = 3 }",
            "path = 'a'\nchat = { roles = ['assistant'] }\npacking = 'packed'\nseparator = 'eos'",
            "path = 'a.bin'\ntoken_type = 'u16'\ndocument_end = 0\nmax_tokens = 5",
        ] {
            let corpus = parse(text).unwrap();
            corpus.check("corpus").unwrap();
            assert_eq!(parse(&toml::to_string(&corpus).unwrap()).unwrap(), corpus, "{text}");
        }
        assert_eq!(parse("path = 'a'").unwrap(), CorpusConfig::new("a"));
        assert_eq!(parse("path = 'a'").unwrap().field(), "text");
        assert_eq!(parse("path = 'a'\nchat = {}").unwrap().field(), "messages");
        let parts = |text: &str| parse(text).unwrap().parts();
        assert_eq!(parts("path = 'a'"), None);
        assert_eq!(parts("path = 'a'\nsplit = 'train'"), Some((Split::Train, 0.05)));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (text, key) in [
            ("path = []", "path"),
            ("path = ''", "path"),
            ("path = 'a'\nsplit = 'train'\nheld_out = 1.0", "held_out"),
            ("path = 'a'\nheld_out = 0.5", "held_out"),
            ("path = 'a'\nshuffle = { window = 0 }", "shuffle.window"),
            ("path = 'a'\nmax_tokens = 0", "max_tokens"),
            ("path = 'a'\nmax_document_tokens = 0", "max_document_tokens"),
            ("path = 'a'\nseparator = 'eos'", "separator"),
            ("path = 'a'\nformat = 'bin'\nfield = 'x'", "field"),
            ("path = 'a'\nformat = 'npy'\nchat = {}", "chat"),
        ] {
            let message = parse(text).unwrap().check("data.corpus").unwrap_err().to_string();
            assert!(message.starts_with(&format!("`data.corpus.{key}`")), "{text}: {message}");
        }
        for text in ["path = 3", "path = 'a'\nfeild = 'x'", "path = 'a'\nchat = { role = 'x' }"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_files() {
        for format in CorpusFormat::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        }
        for width in TokenType::ALL {
            assert_eq!(serde_json::to_value(width).unwrap(), width.name());
        }
        for separator in Separator::ALL {
            assert_eq!(serde_json::to_value(separator).unwrap(), separator.name());
        }
    }

    #[test]
    fn relative_paths_start_at_a_folder() {
        let mut corpus = parse("path = ['a', '/b', 'hf:owner/name']").unwrap();
        corpus.root_paths(Path::new("/runs"));
        assert_eq!(corpus.path, ["/runs/a", "/b", "hf:owner/name"]);
    }
}

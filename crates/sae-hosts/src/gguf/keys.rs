//! The metadata of a GGUF file, read key by key with errors that name the key.
//!
//! Every key that is read is remembered, so that [`Keys::finish`] can refuse those that nobody asked
//! for.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::{GgufArray, GgufFile, GgufValue};
use crate::{Error, Result};

/// The largest integer accepted for a size: far above any host, far below overflow.
const MAX_SIZE: u64 = 1 << 31;

/// Keys that cannot change what is computed here, by the reason; `.*` stands for all below.
const IGNORED: &[&str] = &[
    // Read with the header.
    "general.alignment",
    // Names, origins and licences.
    "general.name",
    "general.author",
    "general.version",
    "general.organization",
    "general.finetune",
    "general.basename",
    "general.description",
    "general.quantized_by",
    "general.size_label",
    "general.parameter_count",
    "general.license",
    "general.license.*",
    "general.url",
    "general.doi",
    "general.uuid",
    "general.repo_url",
    "general.source.*",
    "general.base_model.*",
    "general.dataset.*",
    "general.datasets",
    "general.tags",
    "general.languages",
    // The type of most tensors; each tensor has its own.
    "general.file_type",
    // How the file was quantised.
    "quantize.imatrix.*",
    "mradermacher.*",
    // Every text has tokens.
    "tokenizer.ggml.unknown_token_id",
    // Generation of text, which is not done: how to choose tokens, chat formats, and the numbers of
    // tokens that end, pad, mask or frame a text.
    "general.sampling.*",
    "tokenizer.chat_template",
    "tokenizer.chat_template.*",
    "tokenizer.chat_templates",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.mask_token_id",
    "tokenizer.ggml.prefix_token_id",
    "tokenizer.ggml.suffix_token_id",
    "tokenizer.ggml.middle_token_id",
    "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.fim_suf_token_id",
    "tokenizer.ggml.fim_mid_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// The keys of a file, and which of them were read.
pub(super) struct Keys<'a> {
    pub(super) gguf: &'a GgufFile,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(gguf: &'a GgufFile) -> Self {
        Self { gguf, read: RefCell::default() }
    }

    /// An error about `key`.
    pub(super) fn wrong(
        &self,
        key: &str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Error {
        Error::file(&self.gguf.path, key, expected, got)
    }

    pub(super) fn value(&self, key: &str) -> Option<&'a GgufValue> {
        self.read.borrow_mut().insert(key.to_owned());
        self.gguf.value(key)
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.wrong(key, expected, value))
    }

    fn required<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.wrong(key, expected, "no such key"))
    }

    /// An integer above 0; a list of one for each layer counts if all are the same.
    pub(super) fn size(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an integer from 1 to 2^31", |value| {
            let same = |array: &GgufArray| {
                let mut values = array.integers()?;
                let first = values.next()?;
                values.all(|value| value == first).then_some(u64::try_from(first).ok()?)
            };
            let size = value.as_u64().or_else(|| same(value.as_array()?));
            size.filter(|size| (1..=MAX_SIZE).contains(size))
        })
    }

    pub(super) fn required_size(&self, key: &str) -> Result<u64> {
        let value = self.size(key)?;
        self.required(key, "an integer from 1 to 2^31", value)
    }

    /// A finite float.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite float", |value| value.as_f64().filter(|value| value.is_finite()))
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", GgufValue::as_bool)
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", GgufValue::as_str)
    }

    pub(super) fn required_string(&self, key: &str) -> Result<&'a str> {
        let value = self.string(key)?;
        self.required(key, "a string", value)
    }

    /// The number of one of `n_tokens` tokens.
    pub(super) fn token(&self, key: &str, n_tokens: usize) -> Result<Option<u32>> {
        self.typed(key, &format!("a token from 0 to {}", n_tokens.saturating_sub(1)), |value| {
            let id = value.as_u64().filter(|id| *id < n_tokens as u64)?;
            u32::try_from(id).ok()
        })
    }

    /// The texts, integers or floats of an array.
    pub(super) fn array<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a GgufArray) -> Option<Vec<T>>,
    ) -> Result<Vec<T>> {
        let values = self.typed(key, expected, |value| read(value.as_array()?))?;
        self.required(key, expected, values)
    }

    /// Refuses any value of a key for which `is_neutral` does not hold.
    pub(super) fn only(
        &self,
        key: &str,
        expected: impl std::fmt::Display,
        is_neutral: impl Fn(&GgufValue) -> bool,
    ) -> Result<()> {
        match self.value(key) {
            Some(value) if !is_neutral(value) => Err(self.wrong(key, expected, value)),
            _ => Ok(()),
        }
    }

    /// Refuses any number but `expected`, as f32, under a key.
    pub(super) fn only_number(&self, key: &str, expected: f64) -> Result<()> {
        let same = |value: f64| value as f32 == expected as f32;
        self.only(key, expected, |value| value.as_number().is_some_and(same))
    }

    /// Refuses a file with a key that was not read and is not known to change nothing.
    pub(super) fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        let ignored = |key: &str| {
            IGNORED.iter().any(|known| match known.strip_suffix('*') {
                Some(prefix) => key.starts_with(prefix),
                None => key == *known,
            })
        };
        let mut left = self.gguf.metadata.iter();
        match left.find(|(key, _)| !read.contains(*key) && !ignored(key)) {
            None => Ok(()),
            Some((key, value)) => Err(self.wrong(key, "no such key in this model", value)),
        }
    }
}

//! The tokenizer that a GGUF file describes: byte-level BPE, or BPE of sentencepiece.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::keys::Keys;
use super::sentencepiece;
use crate::Result;
use crate::tokenizer::{ChatSource, HostTokenizer};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const CHAT: &str = "tokenizer.chat_template";
const CHATS: &str = "tokenizer.chat_templates";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// What a token is, by its number in `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal = 1,
    /// Stands for text without a token.
    Unknown,
    /// Such as `<|endoftext|>`.
    Control,
    /// Added to the vocabulary by its user.
    UserDefined,
    Unused,
    /// One byte, such as `<0x0A>`.
    Byte,
}

/// How a text is split into words before bytes are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    /// Words, numbers, punctuation and space.
    Gpt2,
    /// First every digit on its own, then as GPT-2.
    Smollm,
    /// Digits in threes from the left.
    Llama3,
    /// Digits one by one.
    Qwen2,
}

/// The values of `tokenizer.ggml.pre` that are read.
const PRES: [(&str, Words); 8] = [
    ("gpt-2", Words::Gpt2),
    ("smollm", Words::Smollm),
    ("llama-bpe", Words::Llama3),
    ("llama3", Words::Llama3),
    ("llama-v3", Words::Llama3),
    ("falcon3", Words::Llama3),
    ("qwen2", Words::Qwen2),
    ("deepseek-r1-qwen", Words::Qwen2),
];

/// The tokens of a file, by their numbers.
pub(super) struct Vocabulary {
    pub(super) tokens: Vec<String>,
    pub(super) types: Vec<TokenType>,
}

impl HostTokenizer {
    /// Builds the tokenizer that a GGUF file describes.
    pub(super) fn from_gguf(keys: &Keys<'_>) -> Result<Self> {
        for key in ["add_eos_token", "add_sep_token", "remove_extra_whitespaces"] {
            let key = format!("tokenizer.ggml.{key}");
            keys.only(&key, "false", |value| value.as_bool() == Some(false))?;
        }
        let model = keys.required_string(MODEL)?;
        let mut vocabulary = Vocabulary::read(keys)?;
        let n_tokens = vocabulary.tokens.len();
        let (mut inner, default_bos, adds_bos) = match model {
            "gpt2" => {
                // Scores, which some files have, are sentencepiece's.
                keys.value(SCORES);
                let (tokenizer, adds_bos) = byte_level(keys, &vocabulary)?;
                (tokenizer, None, adds_bos)
            }
            "llama" => {
                // What other tokenizers go by, where a file has it.
                keys.value(PRE);
                keys.value(MERGES);
                let scores = keys.array(SCORES, "an array of 32-bit floats", |array| {
                    Some(array.floats()?.collect())
                })?;
                let prefix = keys.bool(SPACE_PREFIX)?.unwrap_or(true);
                let tokenizer = sentencepiece::build(&mut vocabulary, &scores, prefix, keys)?;
                (tokenizer, Some(1).filter(|id| (*id as usize) < n_tokens), true)
            }
            other => {
                let expected = "`gpt2` (byte-level BPE) or `llama` (sentencepiece)";
                return Err(keys.wrong(MODEL, expected, format!("`{other}`")));
            }
        };
        let added = |wanted: &[TokenType], special: bool| {
            let tokens = vocabulary.of_types(wanted);
            tokens.map(|text| AddedToken::from(text, special).normalized(false)).collect::<Vec<_>>()
        };
        inner.add_special_tokens(&added(&[TokenType::Control, TokenType::Unknown], true));
        inner.add_tokens(&added(&[TokenType::UserDefined], false));

        let bos = keys.token(BOS, n_tokens)?.or(default_bos);
        let adds_bos = keys.bool(ADD_BOS)?.unwrap_or(adds_bos);
        if adds_bos && bos.is_none() {
            return Err(keys.wrong(BOS, "the token that starts each text", "no such key"));
        }
        let eos = keys.token(EOS, n_tokens)?;
        let chat = chat(keys, &vocabulary, bos, eos)?;
        Ok(Self::new(inner, bos, adds_bos).with_chat(eos, chat))
    }
}

/// The byte-level BPE of a file, and whether a BOS token is put before a text.
fn byte_level(keys: &Keys<'_>, vocabulary: &Vocabulary) -> Result<(Tokenizer, bool)> {
    keys.only(SPACE_PREFIX, "false", |value| value.as_bool() == Some(false))?;
    let name = keys.required_string(PRE)?;
    let (_, words) = PRES.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let known = PRES.map(|(known, _)| format!("`{known}`")).join(", ");
        keys.wrong(PRE, format!("one of {known}"), format!("`{name}`"))
    })?;
    let merges = texts(keys, MERGES)?
        .iter()
        .map(|merge| match merge.split_once(' ') {
            Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
            None => Err(keys.wrong(MERGES, "two tokens and a space", format!("`{merge}`"))),
        })
        .collect::<Result<Vec<_>>>()?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.ids(), merges)
        .ignore_merges(words.like_llama3())
        .build()
        .map_err(|error| keys.wrong(MERGES, "a BPE model", error))?;
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer
        .with_pre_tokenizer(Some(words.splitter()))
        .with_decoder(Some(ByteLevel::new(false, true, true)));
    Ok((tokenizer, words.like_llama3()))
}

/// The chat templates of a file.
fn chat(
    keys: &Keys<'_>,
    vocabulary: &Vocabulary,
    bos: Option<u32>,
    eos: Option<u32>,
) -> Result<ChatSource> {
    let mut chat = ChatSource { path: keys.gguf.path().to_path_buf(), ..ChatSource::default() };
    let mut add = |name: &str, key: &str| -> Result<()> {
        if let Some(template) = keys.string(key)? {
            chat.templates.insert(name.to_owned(), template.to_owned());
        }
        Ok(())
    };
    add("default", CHAT)?;
    if keys.value(CHATS).is_some() {
        for name in texts(keys, CHATS)? {
            add(&name, &format!("{CHAT}.{name}"))?;
        }
    }
    for (role, id) in [("bos_token", bos), ("eos_token", eos)] {
        let token = id.and_then(|id| vocabulary.tokens.get(id as usize));
        chat.tokens.extend(token.map(|token| (role.to_owned(), token.clone())));
    }
    Ok(chat)
}

fn texts(keys: &Keys<'_>, key: &str) -> Result<Vec<String>> {
    keys.array(key, "an array of strings", |array| {
        Some(array.strings()?.map(str::to_owned).collect())
    })
}

impl Words {
    /// Whether a word that is a token is that token, whatever its merges give, and a BOS token is
    /// put before a text where no key says so.
    fn like_llama3(self) -> bool {
        self == Self::Llama3
    }

    /// What splits a text into words and spells their bytes as letters.
    fn splitter(self) -> PreTokenizerWrapper {
        let byte_level = ByteLevel::new(false, true, true);
        let digits = match self {
            Self::Gpt2 => return byte_level.into(),
            Self::Smollm => {
                return Sequence::new(vec![Digits::new(true).into(), byte_level.into()]).into();
            }
            Self::Llama3 => r"\p{N}{1,3}",
            Self::Qwen2 => r"\p{N}",
        };
        let pattern = [
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            digits,
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ];
        let pattern = SplitPattern::Regex(pattern.join("|"));
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .expect("the pattern is well-formed");
        let bytes_only = ByteLevel::new(false, true, false);
        Sequence::new(vec![split.into(), bytes_only.into()]).into()
    }
}

impl Vocabulary {
    fn read(keys: &Keys<'_>) -> Result<Self> {
        let tokens = texts(keys, TOKENS)?;
        let numbers = keys.array(TYPES, "an array of 32-bit integers", |array| {
            Some(array.integers()?.collect())
        })?;
        if numbers.len() != tokens.len() {
            let expected = format!("{} values, one a token", tokens.len());
            return Err(keys.wrong(TYPES, expected, numbers.len()));
        }
        let known = |number: i64| {
            let mut all = TokenType::ALL.into_iter();
            all.find(|kind| *kind as i64 == number)
                .ok_or_else(|| keys.wrong(TYPES, "values from 1 to 6", number))
        };
        let types = numbers.into_iter().map(known).collect::<Result<_>>()?;
        let vocabulary = Self { tokens, types };
        if vocabulary.ids().len() != vocabulary.tokens.len() {
            return Err(keys.wrong(TOKENS, "distinct tokens", "a repeated one"));
        }
        Ok(vocabulary)
    }

    /// The number of each token.
    pub(super) fn ids(&self) -> Vocab {
        self.tokens.iter().cloned().zip(0..).collect()
    }

    /// The tokens of these types.
    pub(super) fn of_types(&self, wanted: &[TokenType]) -> impl Iterator<Item = &str> {
        let pairs = self.tokens.iter().zip(&self.types);
        pairs.filter(|(_, kind)| wanted.contains(kind)).map(|(token, _)| token.as_str())
    }
}

impl TokenType {
    const ALL: [Self; 6] =
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
}

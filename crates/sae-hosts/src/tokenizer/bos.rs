//! Which token leads each context, and what is done with rows of special tokens.

use std::fmt;
use std::str::FromStr;

use super::HostTokenizer;
use crate::{Error, Result};

/// Which token is put at the front of each context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bos {
    /// The one that the host's own tokenizer puts before a text, if it does.
    #[default]
    Auto,
    /// The host's beginning-of-text token; a host without one is refused.
    Always,
    /// None.
    Never,
    /// This token.
    Token(u32),
}

impl Bos {
    /// The token for a host's tokenizer.
    ///
    /// # Errors
    /// [`Error::Input`] if there is to be one and the tokenizer has none, or not this one;
    /// [`Error::File`] if it is not clear what the host's own tokenizer does.
    pub fn resolve(self, tokenizer: &HostTokenizer) -> Result<Option<u32>> {
        match self {
            Self::Auto if tokenizer.adds_bos()? => Ok(tokenizer.bos()),
            Self::Auto => Ok(None),
            Self::Never => Ok(None),
            Self::Always => {
                let none = || Error::input("bos", "a host with a bos token", "one without");
                tokenizer.bos().map(Some).ok_or_else(none)
            }
            Self::Token(id) => match tokenizer.token(id) {
                Some(_) => Ok(Some(id)),
                None => Err(Error::input("bos", "a token of the host", id)),
            },
        }
    }
}

impl From<sae_config::BosPolicy> for Bos {
    fn from(policy: sae_config::BosPolicy) -> Self {
        match policy {
            sae_config::BosPolicy::Auto => Self::Auto,
            sae_config::BosPolicy::Always => Self::Always,
            sae_config::BosPolicy::Never => Self::Never,
        }
    }
}

/// What is done with special tokens (`<|endoftext|>`, `<bos>`, `<pad>`, …) that stand in a text.
///
/// The token that [`Bos`] puts in front is position 0 of its context and not meant here: it is
/// left out as other first positions are, by `skip_positions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpecialTokens {
    /// The host reads them; their rows are not stored, and predictions from them and of them are
    /// not counted.
    #[default]
    Dropped,
    /// They are tokens like all others.
    Kept,
}

impl From<sae_config::SpecialTokens> for SpecialTokens {
    fn from(what: sae_config::SpecialTokens) -> Self {
        match what {
            sae_config::SpecialTokens::Drop => Self::Dropped,
            sae_config::SpecialTokens::Keep => Self::Kept,
        }
    }
}

impl fmt::Display for SpecialTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "dropped",
            Self::Kept => "kept",
        })
    }
}

impl FromStr for SpecialTokens {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "dropped" => Ok(Self::Dropped),
            "kept" => Ok(Self::Kept),
            other => Err(Error::input("special_tokens", "`dropped` or `kept`", other)),
        }
    }
}

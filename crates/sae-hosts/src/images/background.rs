//! What is seen through the transparent pixels of an image.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// What is seen through the transparent pixels of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Background {
    /// The colours that the file has for them, as if all were opaque: what transformers does.
    #[default]
    Stored,
    /// White.
    White,
    /// Black.
    Black,
}

impl Background {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stored, Self::White, Self::Black];

    /// Its name, as the provenance of a store has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::White => "white",
            Self::Black => "black",
        }
    }

    pub(super) const fn colour(self) -> Option<[u8; 3]> {
        match self {
            Self::Stored => None,
            Self::White => Some([255; 3]),
            Self::Black => Some([0; 3]),
        }
    }
}

impl fmt::Display for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Background {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|background| background.name() == text);
        found.ok_or_else(|| Error::input("background", "stored, white or black", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backgrounds_are_read_by_their_names() {
        for background in Background::ALL {
            assert_eq!(background.to_string().parse::<Background>().unwrap(), background);
        }
        let error = "red".parse::<Background>().unwrap_err().to_string();
        assert_eq!(error, "background: expected stored, white or black, got red");
    }
}

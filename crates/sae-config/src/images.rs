//! What is taken of images.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The positions of an image that are rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImagePositions {
    /// All of them.
    All,
    /// The class token alone.
    Class,
    /// The patches by rows.
    #[default]
    Patches,
}

impl ImagePositions {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::All, Self::Class, Self::Patches];

    /// Its name, as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Class => "class",
            Self::Patches => "patches",
        }
    }

    /// Which of an image's positions these are.
    #[must_use]
    pub fn range(self, n_positions: usize, class_token: bool) -> Range<usize> {
        match self {
            Self::All => 0..n_positions,
            Self::Class => 0..1,
            Self::Patches => usize::from(class_token)..n_positions,
        }
    }
}

impl FromStr for ImagePositions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|positions| positions.name() == text);
        found.ok_or_else(|| Error::value("positions", "all, class or patches", text))
    }
}

/// What is seen through the transparent pixels of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageBackground {
    /// The colours that the file has for them, as if all were opaque: what transformers does.
    #[default]
    Stored,
    /// White.
    White,
    /// Black.
    Black,
}

impl ImageBackground {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stored, Self::White, Self::Black];

    /// Its name, as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::White => "white",
            Self::Black => "black",
        }
    }

    /// Its colour; none where each pixel shows its own.
    #[must_use]
    pub const fn colour(self) -> Option<[u8; 3]> {
        match self {
            Self::Stored => None,
            Self::White => Some([255; 3]),
            Self::Black => Some([0; 3]),
        }
    }
}

impl fmt::Display for ImageBackground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ImageBackground {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|background| background.name() == text);
        found.ok_or_else(|| Error::value("background", "stored, white or black", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_their_names() {
        for background in ImageBackground::ALL {
            assert_eq!(background.to_string().parse::<ImageBackground>().unwrap(), background);
            let written = serde_json::to_value(background).unwrap();
            assert_eq!(written, background.name());
        }
        for positions in ImagePositions::ALL {
            assert_eq!(positions.name().parse::<ImagePositions>().unwrap(), positions);
            assert_eq!(serde_json::to_value(positions).unwrap(), positions.name());
        }
        let error = "red".parse::<ImageBackground>().unwrap_err().to_string();
        assert_eq!(error, "`background`: expected stored, white or black, got red");
        let error = "some".parse::<ImagePositions>().unwrap_err().to_string();
        assert_eq!(error, "`positions`: expected all, class or patches, got some");
    }
}

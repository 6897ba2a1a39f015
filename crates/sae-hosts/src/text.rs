//! Texts to harvest from.

use std::path::Path;

use crate::{Error, Result};

/// A document: contexts never reach from one into the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it came from, for people.
    pub name: String,
    /// What it says.
    pub content: String,
}

impl Text {
    /// Reads a file as one document.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::NotUtf8`] with the offset of the first bad byte.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let content = String::from_utf8(bytes).map_err(|error| Error::NotUtf8 {
            path: path.to_path_buf(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        Ok(Self { name: path.display().to_string(), content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_not_utf8_names_the_offset() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"caf\xe9").unwrap();
        let error = Text::read(file.path()).unwrap_err().to_string();
        assert!(error.ends_with("expected UTF-8 text, got an invalid byte at offset 3"), "{error}");
    }
}

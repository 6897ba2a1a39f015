//! Names of repositories: `hf:owner/name[/path][@revision]`.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

const PREFIX: &str = "hf:";

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl Kind {
    /// Its name in addresses and in the cache.
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// A repository, a path in it, and a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `owner/name`.
    pub repository: String,
    /// A folder or file in it; the whole repository if absent.
    pub path: Option<String>,
    /// A branch, tag or commit; `main` if absent.
    pub revision: Option<String>,
}

impl Reference {
    /// Whether a text names a repository, and no local path.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The revision.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The same place at a commit.
    #[must_use]
    pub fn at(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.repository)?;
        if let Some(path) = &self.path {
            write!(f, "/{path}")?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Reference { text: text.to_owned() };
        let rest = text.strip_prefix(PREFIX).ok_or_else(wrong)?;
        let (place, revision) = match rest.split_once('@') {
            Some((place, revision)) => (place, Some(revision.to_owned())),
            None => (rest, None),
        };
        let is_name = |name: &&str| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !name.is_empty() && name.chars().all(is_allowed) && !name.starts_with('.')
        };
        let is_revision = |name: &String| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            is_plain(name) && name.chars().all(is_allowed)
        };
        let mut parts = place.splitn(3, '/');
        let owner = parts.next().filter(is_name).ok_or_else(wrong)?;
        let name = parts.next().filter(is_name).ok_or_else(wrong)?;
        let path = parts.next().map(|path| path.trim_end_matches('/').to_owned());
        let path = path.filter(|path| !path.is_empty());
        let is_inside = |path: &String| is_plain(path);
        if path.as_ref().is_some_and(|path| !is_inside(path))
            || revision.as_ref().is_some_and(|revision| !is_revision(revision))
        {
            return Err(wrong());
        }
        Ok(Self { repository: format!("{owner}/{name}"), path, revision })
    }
}

/// Whether a path leads nowhere but into its folder.
pub(crate) fn is_plain(path: &str) -> bool {
    let is_control = path.chars().any(|c| c.is_control() || c == '\\');
    !is_control && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_are_read_and_written() {
        for (text, repository, path, revision) in [
            ("hf:a/b", "a/b", None, None),
            ("hf:a/b-c.d_e@v1", "a/b-c.d_e", None, Some("v1")),
            (
                "hf:a/b/data/en@refs/convert/parquet",
                "a/b",
                Some("data/en"),
                Some("refs/convert/parquet"),
            ),
            ("hf:a/b/x y.gguf", "a/b", Some("x y.gguf"), None),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.repository, repository);
            assert_eq!(reference.path.as_deref(), path);
            assert_eq!(reference.revision.as_deref(), revision);
            assert_eq!(reference.to_string(), text);
        }
        for text in [
            "a/b",
            "hf:a",
            "hf:/b",
            "hf:a/",
            "hf:a/b@",
            "hf:a/b/../c",
            "hf:a/b@../x",
            "hf:a b/c",
            "hf:../b",
            "hf:a/b@x y",
            "hf:a/b/c\\d",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again_and_stays_inside(text in "hf:[a./@-]{0,14}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference.clone());
                prop_assert!(reference.path.as_deref().is_none_or(is_plain));
                prop_assert!(is_plain(reference.revision()));
            }
        }
    }
}

//! Where the activations of a sweep come from, and how its runs are judged.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, ImageBackground, ImagePositions, Result, Suite};

/// A host model: a pinned one by name, or one's own by path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Name of a model that is fetched, pinned by its hash.
    pub name: Option<String>,
    /// A model file or folder, relative to the sweep file.
    pub path: Option<PathBuf>,
}

/// Where activations are taken from the host, and how it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HarvestConfig {
    /// The hook point, such as `resid_post.15`; none where every run has its own.
    pub hook: Option<String>,
    /// Tokens the host sees at once; 128, or as many as the host has positions, if absent.
    pub context_length: Option<usize>,
    /// First positions of each context that are left out: their norms dwarf all others.
    #[serde(default = "default_skip_positions")]
    pub skip_positions: usize,
    /// Whether the host's beginning-of-text token leads each context.
    #[serde(default)]
    pub bos: BosPolicy,
    /// What is done with special tokens that stand in the texts.
    #[serde(default)]
    pub special_tokens: SpecialTokens,
    /// Upper bound of tokens read of each training text; all if absent.
    pub max_tokens: Option<u64>,
}

/// When a host's beginning-of-text token leads each context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BosPolicy {
    /// Where the host's own tokenizer puts it before a text.
    #[default]
    Auto,
    /// With every host that has one; others are refused.
    Always,
    /// With none.
    Never,
}

impl BosPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Always, Self::Never];

    /// Its name, as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// What is done with special tokens that stand in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecialTokens {
    /// The host reads them; they are neither trained on nor judged by.
    #[default]
    Drop,
    /// They are tokens like all others.
    Keep,
}

impl SpecialTokens {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Drop, Self::Keep];

    /// Its name, as files and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Keep => "keep",
        }
    }
}

const fn default_skip_positions() -> usize {
    1
}

/// Text files, relative to the sweep file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextsConfig {
    /// Read for the activations that SAEs are trained on.
    pub train: Vec<PathBuf>,
    /// Read for the activations and the cross-entropy that SAEs are judged by.
    pub held_out: Vec<PathBuf>,
}

/// Images that a vision host reads: pictures by the name of a package that is fetched and split, or
/// two folders of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// Name of pictures that are fetched.
    pub name: Option<String>,
    /// Folder of images that SAEs are trained on, relative to the sweep file.
    pub train: Option<PathBuf>,
    /// Folder of images that SAEs are judged by, relative to the sweep file.
    pub held_out: Option<PathBuf>,
    /// The positions of each image that are rows.
    #[serde(default)]
    pub positions: ImagePositions,
    /// What is seen through transparent pixels.
    #[serde(default)]
    pub background: ImageBackground,
}

impl ImagesConfig {
    pub(super) fn check(&self, harvest: &HarvestConfig) -> Result<()> {
        let given = [self.name.is_some(), self.train.is_some(), self.held_out.is_some()];
        if !matches!(given, [true, false, false] | [false, true, true]) {
            let names = ["`name`", "`train`", "`held_out`"].into_iter().zip(given);
            let got: Vec<_> = names.filter(|(_, given)| *given).map(|(name, _)| name).collect();
            let got = if got.is_empty() { "neither".to_owned() } else { got.join(" and ") };
            return Err(Error::value("images", "`name`, or `train` and `held_out`", got));
        }
        if let Some(both) =
            self.train.as_ref().filter(|train| Some(*train) == self.held_out.as_ref())
        {
            let expected = "a folder that is not trained on";
            return Err(Error::value("images.held_out", expected, both.display()));
        }
        // What says how texts are read.
        for (key, is_given) in [
            ("context_length", harvest.context_length.is_some()),
            ("skip_positions", harvest.skip_positions != default_skip_positions()),
            ("bos", harvest.bos != BosPolicy::default()),
            ("special_tokens", harvest.special_tokens != SpecialTokens::default()),
            ("max_tokens", harvest.max_tokens.is_some()),
        ] {
            if is_given {
                let key = format!("harvest.{key}");
                return Err(Error::value(key, "nothing where `images` is given", "a value"));
            }
        }
        Ok(())
    }
}

/// How runs are judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Upper bound of tokens of each held-out text for cross-entropy; all if absent.
    pub max_tokens: Option<u64>,
    /// Suites of scores that runs are judged by; no part of what a run is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<Suite>,
}

/// Activation stores, relative to the sweep file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoresConfig {
    /// SAEs are trained on these.
    pub train: PathBuf,
    /// SAEs are judged by these.
    pub held_out: PathBuf,
}

/// Two stores of one known dictionary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedStoresConfig {
    /// Rows that SAEs are trained on.
    pub train_rows: u64,
    /// Rows that SAEs are judged by, which come after them.
    pub held_out_rows: u64,
    /// What the rows are made of: `[planted]` of `softsae plant`, but for the rows' numbers.
    #[serde(default)]
    pub data: toml::Table,
}

impl PlantedStoresConfig {
    pub(super) fn check(&self) -> Result<()> {
        for (key, n_rows) in
            [("train_rows", self.train_rows), ("held_out_rows", self.held_out_rows)]
        {
            if n_rows == 0 {
                return Err(Error::value(format!("planted.{key}"), "at least 1", 0));
            }
        }
        match ["n_rows", "first_row"].into_iter().find(|key| self.data.contains_key(*key)) {
            Some(key) => {
                let expected = "nothing: `train_rows` and `held_out_rows` decide";
                Err(Error::value(format!("planted.data.{key}"), expected, &self.data[key]))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_by_their_names() {
        let read = |key: &str, name: &str| {
            let text = format!("hook = \"resid_post.1\"\n{key} = \"{name}\"");
            toml::from_str::<HarvestConfig>(&text).unwrap()
        };
        for bos in BosPolicy::ALL {
            assert_eq!(read("bos", bos.name()).bos, bos);
        }
        for special in SpecialTokens::ALL {
            assert_eq!(read("special_tokens", special.name()).special_tokens, special);
        }
    }
}

//! A sweep: one set of activations, a base run, and the axes along which it varies.

mod expand;
mod keys;
mod slurm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, read_toml};

pub use expand::SweepPoint;
#[cfg(test)]
pub(crate) use keys::{fields, set as set_key};
pub use slurm::SlurmConfig;

/// A sweep file: where the activations come from, and which runs to make of them.
///
/// Keys in `axes`, `architectures` and `extra` are keys of the run file, dotted
/// (`training.lr`) or, since each last name occurs once, short (`lr`).
/// `architecture` alone means `architecture.name`, and what no section of the
/// run file knows is a setting of the architecture (`k`, `auxk.weight`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// The model whose activations are harvested; needs `harvest` and `texts`.
    pub host: Option<HostConfig>,
    /// Where in the host, and how.
    pub harvest: Option<HarvestConfig>,
    /// What the host reads.
    pub texts: Option<TextsConfig>,
    /// How runs are judged.
    #[serde(default)]
    pub evaluation: EvaluationConfig,
    /// Activations that exist already, in place of host, harvest and texts.
    pub stores: Option<StoresConfig>,
    /// Activations made of known features, in place of host, harvest and texts.
    pub planted: Option<PlantedStoresConfig>,
    /// What is asked of a SLURM cluster for each run.
    pub slurm: Option<SlurmConfig>,
    /// What all runs share: a run file without `data.store`.
    pub base: toml::Table,
    /// Settings that hold for one architecture, by its name; they override `base`.
    #[serde(default)]
    pub architectures: BTreeMap<String, toml::Table>,
    /// Lists of values by key; every combination is a run. They override `architectures`.
    #[serde(default)]
    pub axes: toml::Table,
    /// Named sets of keys, each combined with all axes; they override `architectures`.
    #[serde(default)]
    pub variants: toml::Table,
    /// Runs beyond the axes, each a set of keys; `variant` names what it is a run of.
    #[serde(default)]
    pub extra: Vec<toml::Table>,
}

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
    /// The hook point, such as `resid_post.15`.
    pub hook: String,
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

/// How runs are judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Upper bound of tokens of each held-out text for cross-entropy; all if absent.
    pub max_tokens: Option<u64>,
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

impl SweepConfig {
    /// Reads and checks a sweep file; relative paths in it start at its own folder.
    ///
    /// # Errors
    /// An error that names the file and the key.
    pub fn read(path: &Path) -> Result<Self> {
        let mut sweep: Self = read_toml(path)?;
        sweep.check().map_err(|e| e.in_file(path))?;
        sweep.root_paths(path.parent().unwrap_or(Path::new("")));
        Ok(sweep)
    }

    /// Checks what can be checked without expanding the runs.
    fn check(&self) -> Result<()> {
        self.slurm.as_ref().map_or(Ok(()), SlurmConfig::check)?;
        let source = match (&self.stores, &self.planted) {
            (None, None) => return self.check_harvest(),
            (Some(_), None) => "stores",
            (_, Some(_)) => "planted",
        };
        for (key, present) in [
            ("host", self.host.is_some()),
            ("harvest", self.harvest.is_some()),
            ("texts", self.texts.is_some()),
            ("stores", self.stores.is_some() && source != "stores"),
        ] {
            if present {
                let got = format!("`{key}` beside `{source}`");
                return Err(Error::value(key, format!("nothing where `{source}` is given"), got));
            }
        }
        self.planted.as_ref().map_or(Ok(()), PlantedStoresConfig::check)
    }

    fn check_harvest(&self) -> Result<()> {
        let missing = |key: &str| {
            Error::value(
                key,
                "`host`, `harvest` and `texts`, or `stores` or `planted` alone",
                "nothing",
            )
        };
        let host = self.host.as_ref().ok_or_else(|| missing("host"))?;
        let harvest = self.harvest.as_ref().ok_or_else(|| missing("harvest"))?;
        let texts = self.texts.as_ref().ok_or_else(|| missing("texts"))?;
        if host.name.is_some() == host.path.is_some() {
            let got = if host.name.is_some() { "both" } else { "neither" };
            return Err(Error::value("host", "one of `name` and `path`", got));
        }
        let context_length = harvest.context_length.unwrap_or(128);
        if harvest.skip_positions >= context_length {
            let expected = format!("less than context_length = {context_length}");
            return Err(Error::value("harvest.skip_positions", expected, harvest.skip_positions));
        }
        for (key, files) in [("texts.train", &texts.train), ("texts.held_out", &texts.held_out)] {
            if files.is_empty() {
                return Err(Error::value(key, "at least one file", "an empty list"));
            }
        }
        if let Some(both) = texts.train.iter().find(|t| texts.held_out.contains(t)) {
            let expected = "files that are not trained on";
            return Err(Error::value("texts.held_out", expected, both.display()));
        }
        Ok(())
    }

    fn root_paths(&mut self, folder: &Path) {
        let host = self.host.iter_mut().filter_map(|h| h.path.as_mut());
        let texts = self.texts.iter_mut().flat_map(|t| t.train.iter_mut().chain(&mut t.held_out));
        let stores = self.stores.iter_mut().flat_map(|s| [&mut s.train, &mut s.held_out]);
        for path in host.chain(texts).chain(stores) {
            *path = folder.join(&*path);
        }
    }
}

impl PlantedStoresConfig {
    fn check(&self) -> Result<()> {
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

    const SWEEP: &str = r#"
        host.name = "smollm2-135m"
        harvest.hook = "resid_post.15"
        texts.train = ["a.txt"]
        texts.held_out = ["b.txt"]
        [base]
    "#;

    fn error(change: impl FnOnce(&mut SweepConfig)) -> String {
        let mut sweep: SweepConfig = toml::from_str(SWEEP).unwrap();
        change(&mut sweep);
        sweep.check().unwrap_err().to_string()
    }

    #[test]
    fn a_source_of_activations_is_required_once() {
        let stores = StoresConfig { train: "a".into(), held_out: "b".into() };
        assert!(error(|s| s.stores = Some(stores.clone())).starts_with("`host`: expected nothing"));
        assert!(error(|s| s.host = None).starts_with("`host`: expected"));
        assert!(error(|s| s.harvest = None).starts_with("`harvest`: expected"));
        assert!(error(|s| s.texts = None).starts_with("`texts`: expected"));
        let both = error(|s| s.host.as_mut().unwrap().path = Some("m".into()));
        assert_eq!(both, "`host`: expected one of `name` and `path`, got both");
        let neither = error(|s| s.host.as_mut().unwrap().name = None);
        assert_eq!(neither, "`host`: expected one of `name` and `path`, got neither");
    }

    #[test]
    fn planted_stores_are_checked() {
        let planted = |text: &str| {
            let planted: PlantedStoresConfig = toml::from_str(text).unwrap();
            error(|s| {
                *s = SweepConfig { planted: Some(planted), ..toml::from_str("[base]").unwrap() }
            })
        };
        let rows = "train_rows = 9\nheld_out_rows = ";
        assert_eq!(
            planted(&format!("{rows}0")),
            "`planted.held_out_rows`: expected at least 1, got 0"
        );
        let numbered = planted(&format!("{rows}4\ndata.first_row = 3"));
        assert!(numbered.starts_with("`planted.data.first_row`: expected nothing"), "{numbered}");
        let both = error(|s| s.planted = toml::from_str(&format!("{rows}4")).ok());
        assert_eq!(
            both,
            "`host`: expected nothing where `planted` is given, got `host` beside `planted`"
        );
    }

    #[test]
    fn harvest_and_texts_are_checked() {
        let skip = error(|s| s.harvest.as_mut().unwrap().skip_positions = 128);
        assert_eq!(
            skip,
            "`harvest.skip_positions`: expected less than context_length = 128, got 128"
        );
        let none = error(|s| s.texts.as_mut().unwrap().held_out.clear());
        assert_eq!(none, "`texts.held_out`: expected at least one file, got an empty list");
        let leak = error(|s| s.texts.as_mut().unwrap().held_out.push("a.txt".into()));
        assert_eq!(leak, "`texts.held_out`: expected files that are not trained on, got a.txt");
    }

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

    #[test]
    fn paths_start_at_the_folder_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sweep.toml");
        std::fs::write(&file, SWEEP).unwrap();
        let sweep = SweepConfig::read(&file).unwrap();
        assert_eq!(sweep.texts.unwrap().train, [folder.path().join("a.txt")]);
        std::fs::write(&file, SWEEP.replace("hook", "hok")).unwrap();
        let message = SweepConfig::read(&file).unwrap_err().to_string();
        assert!(message.contains("sweep.toml") && message.contains("hok"), "{message}");
    }
}

//! A sweep: one set of activations, a base run, and the axes along which it varies.

mod axes;
mod expand;
mod features;
mod halving;
mod keys;
mod live;
mod metric;
mod point;
mod rung;
mod search;
mod slurm;
mod source;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, read_toml};

pub use features::FeaturesConfig;
pub use halving::HalvingConfig;
pub use keys::{dotted_key, run_keys};
#[cfg(test)]
pub(crate) use keys::{fields, set as set_key};
pub use live::HeldOutConfig;
pub use metric::Metric;
pub use point::SweepPoint;
pub use rung::run_at_rung;
pub use search::SearchConfig;
pub use slurm::SlurmConfig;
pub use source::{
    BosPolicy, EvaluationConfig, HarvestConfig, HostConfig, ImageBackground, ImagePositions,
    ImagesConfig, PlantedStoresConfig, SpecialTokens, StoresConfig, TextsConfig,
};

/// A sweep file: where the activations come from, and which runs to make of them.
///
/// Keys in `axes`, `architectures` and `extra` are keys of the run file, dotted
/// (`training.lr`) or, since each last name occurs once, short (`lr`).
/// `architecture` alone means `architecture.name`, and what no section of the
/// run file knows is a setting of the architecture (`k`, `auxk.weight`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// The model whose activations are harvested; needs `harvest`, and `texts` or `images`.
    pub host: Option<HostConfig>,
    /// Where in the host, and how.
    pub harvest: Option<HarvestConfig>,
    /// What the host reads.
    pub texts: Option<TextsConfig>,
    /// What it sees, if it is a vision model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagesConfig>,
    /// How runs are judged.
    #[serde(default)]
    pub evaluation: EvaluationConfig,
    /// Activations that exist already, in place of a host and what it reads.
    pub stores: Option<StoresConfig>,
    /// Activations made of known features, in place of a host and what it reads.
    pub planted: Option<PlantedStoresConfig>,
    /// What the runs of a live host, which `base.data` names, are judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutConfig>,
    /// Whether runs that read the same batches train in one process, from one pass over them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share: bool,
    /// What is asked of a SLURM cluster for each run.
    pub slurm: Option<SlurmConfig>,
    /// What all runs share: a run file without `data.store`; `data.host` and what belongs to it make
    /// the runs live.
    pub base: toml::Table,
    /// Settings that hold for one architecture, by its name; they override `base`. Its key `axes`
    /// is a table of axes that only its runs have.
    #[serde(default)]
    pub architectures: BTreeMap<String, toml::Table>,
    /// Lists of values by key; every combination is a run. They override `architectures`.
    #[serde(default)]
    pub axes: toml::Table,
    /// Sets of lists of one length: the keys of a set vary together, combined with all axes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zip: Vec<toml::Table>,
    /// Random values of some keys, each sample combined with all axes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchConfig>,
    /// Which runs get all their steps; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halving: Option<HalvingConfig>,
    /// Named sets of keys, each combined with all axes; they override `architectures`.
    #[serde(default)]
    pub variants: toml::Table,
    /// Runs beyond the axes, each a set of keys; `variant` names what it is a run of.
    #[serde(default)]
    pub extra: Vec<toml::Table>,
    /// Which runs get feature pages; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<FeaturesConfig>,
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
        self.halving.as_ref().map_or(Ok(()), |halving| halving.check(self))?;
        self.features.as_ref().map_or(Ok(()), FeaturesConfig::check)?;
        if self.is_live() {
            return self.check_live();
        }
        if self.held_out.is_some() {
            let expected = "nothing without a live host (`base.data.host`)";
            return Err(Error::value("held_out", expected, "a table"));
        }
        let source = match (&self.stores, &self.planted) {
            (None, None) => return self.check_harvest(),
            (Some(_), None) => "stores",
            (_, Some(_)) => "planted",
        };
        for (key, present) in [
            ("host", self.host.is_some()),
            ("harvest", self.harvest.is_some()),
            ("texts", self.texts.is_some()),
            ("images", self.images.is_some()),
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
                "`host`, `harvest` and `texts` or `images`, or `stores`, `planted` or \
                 `base.data.host` alone",
                "nothing",
            )
        };
        let host = self.host.as_ref().ok_or_else(|| missing("host"))?;
        let harvest = self.harvest.as_ref().ok_or_else(|| missing("harvest"))?;
        if host.name.is_some() == host.path.is_some() {
            let got = if host.name.is_some() { "both" } else { "neither" };
            return Err(Error::value("host", "one of `name` and `path`", got));
        }
        if let Some(images) = &self.images {
            if self.texts.is_some() {
                let expected = "nothing where `images` is given";
                return Err(Error::value("texts", expected, "`texts` beside `images`"));
            }
            if self.evaluation.max_tokens.is_some() {
                let expected = "nothing where `images` is given";
                return Err(Error::value("evaluation.max_tokens", expected, "a value"));
            }
            return images.check(harvest);
        }
        let texts = self.texts.as_ref().ok_or_else(|| missing("texts"))?;
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
        let images = self.images.iter_mut().flat_map(|i| i.train.iter_mut().chain(&mut i.held_out));
        let stores = self.stores.iter_mut().flat_map(|s| [&mut s.train, &mut s.held_out]);
        let held_out =
            self.held_out.iter_mut().flat_map(|h| h.store.iter_mut().chain(&mut h.texts));
        for path in host.chain(texts).chain(images).chain(stores).chain(held_out) {
            *path = folder.join(&*path);
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
    fn images_are_named_or_two_folders_and_read_as_no_text() {
        let with = |text: &str| {
            let images: ImagesConfig = toml::from_str(text).unwrap();
            move |sweep: &mut SweepConfig| {
                sweep.texts = None;
                sweep.images = Some(images);
            }
        };
        let mut sweep: SweepConfig = toml::from_str(SWEEP).unwrap();
        for text in ["name = 'stamps'", "train = 'a'\nheld_out = 'b'"] {
            with(text)(&mut sweep);
            sweep.check().unwrap();
        }
        let expected = "`images`: expected `name`, or `train` and `held_out`, got ";
        for (text, got) in [
            ("", "neither"),
            ("train = 'a'", "`train`"),
            ("name = 'x'\nheld_out = 'b'", "`name` and `held_out`"),
        ] {
            assert_eq!(error(with(text)), format!("{expected}{got}"));
        }
        let leak = error(with("train = 'a'\nheld_out = 'a'"));
        assert_eq!(leak, "`images.held_out`: expected a folder that is not trained on, got a");
        let both = error(|s| s.images = toml::from_str("name = 'x'").ok());
        assert!(both.starts_with("`texts`: expected nothing where `images` is given"), "{both}");
        let with_length = error(|s| {
            with("name = 'x'")(s);
            s.harvest.as_mut().unwrap().context_length = Some(9);
        });
        assert!(with_length.starts_with("`harvest.context_length`: expected nothing"));
        let with_tokens = error(|s| {
            with("name = 'x'")(s);
            s.evaluation.max_tokens = Some(9);
        });
        assert!(with_tokens.starts_with("`evaluation.max_tokens`: expected nothing"));
        let folder = Path::new("sweeps");
        let mut sweep: SweepConfig = toml::from_str(SWEEP).unwrap();
        with("train = 'a'\nheld_out = 'b'")(&mut sweep);
        sweep.root_paths(folder);
        assert_eq!(sweep.images.unwrap().held_out, Some(folder.join("b")));
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

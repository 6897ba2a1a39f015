//! A sweep: one set of activations, a base run, and the axes along which it varies.

mod axes;
mod check;
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

use crate::{Result, read_toml};

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
    BosPolicy, EvaluationConfig, HarvestConfig, HostConfig, ImagesConfig, PlantedStoresConfig,
    SpecialTokens, StoresConfig, TextsConfig,
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
    use super::check::tests::SWEEP;
    use super::*;

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

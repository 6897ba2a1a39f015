//! Where the activations of a sweep come from, and what stands for them in the ids of its runs.

mod planted;

use std::path::PathBuf;

use anyhow::{Result, bail};
use sae_config::{
    BosPolicy, HarvestConfig, HostConfig, SpecialTokens, SweepConfig, TRAINING_VERSION, TextsConfig,
};
use serde::Serialize;

pub(super) use self::planted::Planted;
use super::content::{Contents, short_hash};
use super::images::ImageSource;
use super::pair::Pair;
use super::texts;
use crate::assets::{self, Asset};
use crate::exit::usage;
use crate::workspace::Workspace;

/// Where activations come from.
pub(super) enum Source {
    /// They are harvested from a host that reads texts.
    Host { host: Host, harvest: HarvestConfig, train: Recipe, held_out: Recipe },
    /// They are harvested from a host that sees images.
    Images(ImageSource),
    /// They exist.
    Stores(Pair),
    /// They are made of known features.
    Planted { train: Planted, held_out: Planted },
}

/// A host model.
pub(super) enum Host {
    Pinned(&'static Asset),
    Own(PathBuf),
}

/// What a harvested store is made from.
pub(super) struct Recipe {
    /// Hash of everything that shapes the store.
    pub(super) id: String,
    pub(super) texts: Vec<PathBuf>,
    pub(super) max_tokens: Option<u64>,
}

impl Source {
    /// The source of a checked sweep, and what stands for its data in the ids of runs.
    pub(super) fn new(
        workspace: &Workspace,
        config: &SweepConfig,
        contents: &Contents,
    ) -> Result<(Self, String)> {
        if let Some(stores) = &config.stores {
            let pair =
                Pair::open(("stores.train", &stores.train), ("stores.held_out", &stores.held_out))?;
            let data = pair.content(contents)?;
            return Ok((Self::Stores(pair), data));
        }
        if let Some(planted) = &config.planted {
            let (train, held_out) = Planted::pair(planted)?;
            let data = format!("train {}, held out {}", train.id, held_out.id);
            return Ok((Self::Planted { train, held_out }, data));
        }
        let missing = || {
            usage("expected `host`, `harvest` and `texts` or `images`, or `stores` or `planted`")
        };
        let (host, harvest) =
            config.host.as_ref().zip(config.harvest.as_ref()).ok_or_else(missing)?;
        let (host, host_id) = Host::new(host, contents)?;
        if let Some(images) = &config.images {
            let (source, data) =
                ImageSource::new(workspace, host, &host_id, &harvest.hook, images, contents)?;
            return Ok((Self::Images(source), data));
        }
        let texts = config.texts.as_ref().ok_or_else(missing)?;
        let (train, held_out) = Recipe::pair(&host_id, harvest, texts, contents)?;
        texts::check(texts, contents)?;
        let judged = match config.evaluation.max_tokens {
            Some(max_tokens) => format!(", {max_tokens} tokens of each text"),
            None => String::new(),
        };
        let data = format!("train {}, held out {}{judged}", train.id, held_out.id);
        Ok((Self::Host { host, harvest: harvest.clone(), train, held_out }, data))
    }

    /// The folders of the stores that a sweep makes; none of those that it is given.
    pub(super) fn made(&self, workspace: &Workspace) -> Option<[PathBuf; 2]> {
        let (train, held_out) = match self {
            Self::Stores(_) => return None,
            Self::Host { train, held_out, .. } => (&train.id, &held_out.id),
            Self::Images(images) => (&images.train.id, &images.held_out.id),
            Self::Planted { train, held_out } => (&train.id, &held_out.id),
        };
        Some([train, held_out].map(|id| stores_folder(workspace).join(id)))
    }

    /// Prints where the activations come from.
    pub(super) fn print(&self) -> Result<()> {
        match self {
            Self::Host { harvest, train, held_out, .. } => {
                for (name, recipe) in [("train", train), ("held-out", held_out)] {
                    let (id, n) = (&recipe.id, recipe.texts.len());
                    say!("{name} activations {id}: {} of {n} texts", harvest.hook);
                }
            }
            Self::Images(images) => images.print()?,
            Self::Stores(pair) => {
                let [train, held_out] = pair.paths();
                say!("train activations: {}", train.display());
                say!("held-out activations: {}", held_out.display());
            }
            Self::Planted { train, held_out } => {
                for (name, planted) in [("train", train), ("held-out", held_out)] {
                    let (id, n_rows) = (&planted.id, planted.n_rows());
                    say!("{name} activations {id}: {n_rows} planted rows");
                }
            }
        }
        Ok(())
    }
}

impl Host {
    /// A checked host, and what stands for it in the ids of runs.
    fn new(config: &HostConfig, contents: &Contents) -> Result<(Self, String)> {
        match (&config.name, &config.path) {
            (Some(name), _) => {
                let asset = assets::find("host.name", name, &[])?;
                Ok((Self::Pinned(asset), asset.sha256().to_owned()))
            }
            (None, Some(path)) => Ok((Self::Own(path.clone()), contents.tree("host.path", path)?)),
            (None, None) => bail!(usage("host: expected `name` or `path`, got neither")),
        }
    }

    /// Where it is, once it is fetched.
    pub(super) fn fetch(&self, workspace: &Workspace) -> Result<PathBuf> {
        match self {
            Self::Pinned(asset) => asset.fetch(workspace),
            Self::Own(path) => Ok(path.canonicalize()?),
        }
    }
}

/// The folder of the stores that sweeps make.
pub(super) fn stores_folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("stores")
}

/// Tokens that a host sees at once where a sweep does not say it.
const CONTEXT_LENGTH: usize = 128;

impl Recipe {
    /// The stores to train on and to judge by.
    fn pair(
        host: &str,
        harvest: &HarvestConfig,
        texts: &TextsConfig,
        contents: &Contents,
    ) -> Result<(Self, Self)> {
        #[derive(Serialize)]
        struct Identity<'a> {
            version: u32,
            host: &'a str,
            hook: &'a str,
            context_length: usize,
            skip_positions: usize,
            bos: BosPolicy,
            special_tokens: SpecialTokens,
            max_tokens: Option<u64>,
            texts: Vec<String>,
        }
        let new = |key: &str, texts: &[PathBuf], max_tokens: Option<u64>| {
            let hash = |path: &PathBuf| contents.file(key, path);
            let identity = Identity {
                version: TRAINING_VERSION,
                host,
                hook: &harvest.hook,
                context_length: harvest.context_length.unwrap_or(CONTEXT_LENGTH),
                skip_positions: harvest.skip_positions,
                bos: harvest.bos,
                special_tokens: harvest.special_tokens,
                max_tokens,
                texts: texts.iter().map(hash).collect::<Result<_>>()?,
            };
            let id = short_hash(&serde_json::to_string(&identity)?);
            anyhow::Ok(Self { id, texts: texts.to_vec(), max_tokens })
        };
        let train = new("texts.train", &texts.train, harvest.max_tokens)?;
        Ok((train, new("texts.held_out", &texts.held_out, None)?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use sae_data::PlantedConfig;

    use super::*;

    /// What stands for the data of a sweep file in this folder.
    fn data(folder: &Path, sweep: &str) -> String {
        let file = folder.join("sweep.toml");
        fs::write(&file, format!("{sweep}\n[base]\n")).unwrap();
        let config = SweepConfig::read(&file).unwrap();
        let workspace = Workspace::at(folder);
        Source::new(&workspace, &config, &Contents::new(&workspace)).unwrap().1
    }

    #[test]
    fn hosts_and_texts_are_known_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("host")).unwrap();
        for (name, text) in [("host/config.json", "{}"), ("a.txt", "one"), ("b.txt", "two")] {
            fs::write(at(name), text).unwrap();
        }
        let sweep = |host: &str, more: &str| {
            let text = format!(
                "host.path = '{host}'\ntexts = {{ train = ['a.txt'], held_out = ['b.txt'] }}\n\
                 harvest.hook = 'resid_post.1'\n{more}"
            );
            data(folder.path(), &text)
        };
        let before = sweep("host", "");
        for name in ["host/config.json", "a.txt"] {
            let file = fs::File::options().write(true).open(at(name)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        fs::rename(at("host"), at("moved")).unwrap();
        assert_eq!(sweep("moved", ""), before);
        assert_eq!(sweep("moved", "harvest.context_length = 128\nharvest.bos = 'auto'"), before);
        assert_ne!(sweep("moved", "harvest.context_length = 64"), before);
        assert_ne!(sweep("moved", "evaluation.max_tokens = 9"), before);
        for (name, text) in [("moved/config.json", "[]"), ("a.txt", "eno"), ("b.txt", "owt")] {
            let before = sweep("moved", "");
            let (file, new) = (at(name), at("new"));
            let modified = fs::metadata(&file).unwrap().modified().unwrap();
            fs::write(&new, text).unwrap();
            fs::File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
            fs::rename(&new, &file).unwrap();
            assert_ne!(sweep("moved", ""), before, "{name} of the same length and time");
        }
    }

    #[test]
    fn the_truth_that_runs_are_judged_by_counts() {
        let folder = tempfile::tempdir().unwrap();
        let plant = |name: &str, first_row: u64| {
            let config = PlantedConfig { n_rows: 20, first_row, ..PlantedConfig::default() };
            config.write(&folder.path().join(name), sae_data::Dtype::F32).unwrap();
        };
        plant("train", 0);
        plant("held-out", 20);
        let stores = || data(folder.path(), "stores = { train = 'train', held_out = 'held-out' }");
        let before = stores();
        fs::remove_file(folder.path().join("train/truth.safetensors")).unwrap();
        assert_eq!(stores(), before, "no run is judged by that");
        fs::remove_file(folder.path().join("held-out/truth.safetensors")).unwrap();
        assert_ne!(stores(), before);
    }

    #[test]
    fn a_default_of_planted_data_that_is_written_out_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let planted = |more: &str| {
            let rows = "train_rows = 90\nplanted.held_out_rows = 9";
            data(folder.path(), &format!("planted.{rows}\nplanted.data = {{ k_max = 6{more} }}"))
        };
        let before = planted("");
        assert_eq!(planted(", seed = 0, d_model = 64, magnitude = 1"), before);
        assert_ne!(planted(", seed = 1"), before);
    }
}

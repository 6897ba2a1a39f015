//! Where the activations of a sweep come from, and what stands for them in the ids of its runs.

mod planted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail};
use sae_config::{
    BosPolicy, HarvestConfig, HostConfig, SpecialTokens, SweepConfig, SweepPoint, TRAINING_VERSION,
    TextsConfig,
};
use serde::Serialize;

pub(super) use self::planted::Planted;
use super::content::{Contents, short_hash};
use super::images::ImageSource;
use super::live::LiveSource;
use super::pair::Pair;
use super::stores::HookStores;
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
    /// Runs take them from a host while they train.
    Live(LiveSource),
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

/// What the harvested stores of each hook point are made from.
pub(super) struct Recipe {
    /// Hash of everything that shapes the store of a hook point.
    pub(super) ids: Ids,
    pub(super) texts: Vec<PathBuf>,
    pub(super) max_tokens: Option<u64>,
}

/// A text for each hook point that runs read; that of runs whose hook point nothing names is empty.
pub(super) type Ids = BTreeMap<String, String>;

/// What stands for the data of the runs of each hook point: the stores, and how runs are judged.
pub(super) fn stand_for(train: &Ids, held_out: &Ids, judged: &str) -> Ids {
    let both = train.iter().zip(held_out.values());
    both.map(|((hook, train), held_out)| {
        (hook.clone(), format!("train {train}, held out {held_out}{judged}"))
    })
    .collect()
}

impl Source {
    /// The source of a checked sweep, and what stands for its data in the ids of the runs of each hook
    /// point.
    pub(super) fn new(
        workspace: &Workspace,
        config: &SweepConfig,
        points: &[SweepPoint],
        contents: &Contents,
    ) -> Result<(Self, Ids)> {
        let hooks: BTreeSet<&str> =
            points.iter().map(|point| config.hook_of(&point.config)).collect();
        let alone = |data: String| Ids::from([(String::new(), data)]);
        let live = points.first().and_then(|point| point.config.data.live.as_ref());
        if let Some(live) = live {
            let (source, data) = LiveSource::new(config, live, &hooks, contents)?;
            return Ok((Self::Live(source), data));
        }
        if let Some(stores) = &config.stores {
            let pair =
                Pair::open(("stores.train", &stores.train), ("stores.held_out", &stores.held_out))?;
            let data = pair.content(contents)?;
            return Ok((Self::Stores(pair), alone(data)));
        }
        if let Some(planted) = &config.planted {
            let (train, held_out) = Planted::pair(planted)?;
            let data = format!("train {}, held out {}", train.id, held_out.id);
            return Ok((Self::Planted { train, held_out }, alone(data)));
        }
        let missing = || {
            usage("expected `host`, `harvest` and `texts` or `images`, or `stores` or `planted`")
        };
        let (host, harvest) =
            config.host.as_ref().zip(config.harvest.as_ref()).ok_or_else(missing)?;
        let (host, host_id) = Host::new(host, contents)?;
        if let Some(images) = &config.images {
            let (source, data) =
                ImageSource::new(workspace, host, &host_id, &hooks, images, contents)?;
            return Ok((Self::Images(source), data));
        }
        let texts = config.texts.as_ref().ok_or_else(missing)?;
        let (train, held_out) = Recipe::pair(&host_id, harvest, &hooks, texts, contents)?;
        texts::check(texts, contents)?;
        let judged = match config.evaluation.max_tokens {
            Some(max_tokens) => format!(", {max_tokens} tokens of each text"),
            None => String::new(),
        };
        let data = stand_for(&train.ids, &held_out.ids, &judged);
        Ok((Self::Host { host, harvest: harvest.clone(), train, held_out }, data))
    }

    /// The folders of the stores that a sweep makes, by hook point; none of those that it is given.
    pub(super) fn made(&self, workspace: &Workspace) -> BTreeMap<String, HookStores> {
        let place = |id: &String| stores_folder(workspace).join(id);
        let pairs = |train: &Ids, held_out: &Ids| -> BTreeMap<String, HookStores> {
            let both = train.iter().zip(held_out.values());
            let stores = both.map(|((hook, train), held_out)| {
                let (train, held_out) = (Some(place(train)), place(held_out));
                (hook.clone(), HookStores { train, held_out })
            });
            stores.collect()
        };
        match self {
            Self::Stores(_) => BTreeMap::new(),
            Self::Live(live) => {
                let alone = |id: &String| HookStores { train: None, held_out: place(id) };
                live.made().iter().map(|(hook, id)| (hook.clone(), alone(id))).collect()
            }
            Self::Host { train, held_out, .. } => pairs(&train.ids, &held_out.ids),
            Self::Images(images) => pairs(&images.train.ids, &images.held_out.ids),
            Self::Planted { train, held_out } => {
                let stores =
                    HookStores { train: Some(place(&train.id)), held_out: place(&held_out.id) };
                BTreeMap::from([(String::new(), stores)])
            }
        }
    }

    /// Prints where the activations come from.
    pub(super) fn print(&self) -> Result<()> {
        match self {
            Self::Host { train, held_out, .. } => {
                for (name, recipe) in [("train", train), ("held-out", held_out)] {
                    let n = recipe.texts.len();
                    for (hook, id) in &recipe.ids {
                        say!("{name} activations {id}: {hook} of {n} texts");
                    }
                }
            }
            Self::Images(images) => images.print()?,
            Self::Live(live) => live.print()?,
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
        hooks: &BTreeSet<&str>,
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
            texts: &'a [String],
        }
        let new = |key: &str, texts: &[PathBuf], max_tokens: Option<u64>| {
            let hash = |path: &PathBuf| contents.file(key, path);
            let hashes = texts.iter().map(hash).collect::<Result<Vec<_>>>()?;
            let id = |hook: &&str| {
                let identity = Identity {
                    version: TRAINING_VERSION,
                    host,
                    hook,
                    context_length: harvest.context_length.unwrap_or(CONTEXT_LENGTH),
                    skip_positions: harvest.skip_positions,
                    bos: harvest.bos,
                    special_tokens: harvest.special_tokens,
                    max_tokens,
                    texts: &hashes,
                };
                let id = short_hash(&serde_json::to_string(&identity)?);
                anyhow::Ok(((*hook).to_owned(), id))
            };
            let ids = hooks.iter().map(id).collect::<Result<_>>()?;
            anyhow::Ok(Self { ids, texts: texts.to_vec(), max_tokens })
        };
        let train = new("texts.train", &texts.train, harvest.max_tokens)?;
        Ok((train, new("texts.held_out", &texts.held_out, None)?))
    }
}

#[cfg(test)]
mod tests;

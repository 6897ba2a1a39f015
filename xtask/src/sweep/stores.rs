//! The activations of a sweep: harvested or planted once for each recipe, into `target/stores`.

mod maker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use sae_config::{HarvestConfig, RunConfig};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::source::{self, Recipe, Source};
use crate::workspace::Workspace;
use maker::Maker;

/// Where the activations are, and what runs are judged by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Activations {
    /// By hook point; where nothing names it, that is empty.
    pub(super) stores: BTreeMap<String, HookStores>,
    /// The host and its held-out texts, where cross-entropy can be measured.
    pub(super) texts: Option<HostTexts>,
    /// The host and its held-out images, where it sees images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) images: Option<HostImages>,
}

/// The stores of a hook point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HookStores {
    /// What runs are trained on; none where they take it from a host.
    pub(super) train: Option<PathBuf>,
    /// What they are judged by.
    pub(super) held_out: PathBuf,
}

impl HookStores {
    /// All of them.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.train.iter().chain([&self.held_out]).map(PathBuf::as_path)
    }
}

/// A host, and the images that it embeds with reconstructions spliced in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HostImages {
    pub(super) host: PathBuf,
    pub(super) folder: PathBuf,
}

/// A host, and what it reads to measure cross-entropy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HostTexts {
    pub(super) host: PathBuf,
    pub(super) texts: Vec<PathBuf>,
    pub(super) max_tokens: Option<u64>,
}

impl Activations {
    /// Stores that are all there is.
    fn alone(train: PathBuf, held_out: PathBuf) -> Self {
        let stores = HookStores { train: Some(train), held_out };
        Self { stores: BTreeMap::from([(String::new(), stores)]), texts: None, images: None }
    }

    /// The stores of a run.
    pub(super) fn of(&self, config: &RunConfig) -> Result<&HookStores> {
        let stores = match config.data.hook() {
            Some(hook) => self.stores.get(hook),
            None => self.stores.values().next(),
        };
        stores.context("stores of the hook point of each run")
    }

    /// A run with the store that it is trained on.
    pub(super) fn provided(&self, config: &RunConfig) -> Result<RunConfig> {
        let mut config = config.clone();
        if let Some(train) = &self.of(&config)?.train {
            config.data.store.clone_from(train);
        }
        Ok(config)
    }
}

/// Fetches the host and harvests, or plants, what is not there yet.
pub(super) fn prepare(workspace: &Workspace, plan: &Plan, program: &Path) -> Result<Activations> {
    let activations = make_all(workspace, plan, program)?;
    plan.check_made(&plan.source.made(workspace))
        .context("what this sweep made; delete a damaged store to have it made again")?;
    Ok(activations)
}

fn make_all(workspace: &Workspace, plan: &Plan, program: &Path) -> Result<Activations> {
    let folder = source::stores_folder(workspace);
    std::fs::create_dir_all(&folder).map_err(|e| crate::wheel::explain(e, &folder))?;
    let (hashes, device) = (plan.contents.kept(), plan.devices[0].as_str());
    let maker = Maker { folder: &folder, hashes };
    let stores = plan.source.made(workspace);
    match &plan.source {
        Source::Stores(pair) => {
            let [train, held_out] = pair.paths();
            Ok(Activations::alone(train.canonicalize()?, held_out.canonicalize()?))
        }
        Source::Planted { train, held_out } => {
            let plant = |name, planted| maker.plant(name, planted, program);
            Ok(Activations::alone(plant("train", train)?, plant("held-out", held_out)?))
        }
        Source::Images(images) => {
            let host = images.host.fetch(workspace)?;
            maker.harvest_images(images, &host, device, program)?;
            let folder = images.held_out.folder.canonicalize()?;
            Ok(Activations { stores, texts: None, images: Some(HostImages { folder, host }) })
        }
        Source::Host { host, harvest, train, held_out } => {
            let host = host.fetch(workspace)?;
            for (name, recipe) in [("train", train), ("held-out", held_out)] {
                let command =
                    |hooks: &[&str]| harvest_texts(program, &host, device, hooks, harvest, recipe);
                maker.harvest(name, &recipe.ids, command)?;
            }
            let texts = host_texts(&host, &held_out.texts, plan)?;
            Ok(Activations { stores, texts: Some(texts), images: None })
        }
        Source::Live(live) => {
            let command = |hooks: &[&str]| live.harvest(program, device, hooks);
            maker.harvest("held-out", live.made(), command)?;
            let stores = match live.given() {
                Some(store) => {
                    let held_out = store.canonicalize()?;
                    BTreeMap::from([(live.hook().to_owned(), HookStores { train: None, held_out })])
                }
                None => stores,
            };
            let texts = match live.texts.is_empty() {
                true => None,
                false => Some(host_texts(live.host(), &live.texts, plan)?),
            };
            Ok(Activations { stores, texts, images: None })
        }
    }
}

fn host_texts(host: &Path, texts: &[PathBuf], plan: &Plan) -> Result<HostTexts> {
    Ok(HostTexts {
        host: host.to_owned(),
        texts: texts.iter().map(|text| text.canonicalize()).collect::<Result<_, _>>()?,
        max_tokens: plan.config.evaluation.max_tokens,
    })
}

/// The process that harvests texts at hook points.
fn harvest_texts(
    program: &Path,
    host: &Path,
    device: &str,
    hooks: &[&str],
    harvest: &HarvestConfig,
    recipe: &Recipe,
) -> Command {
    let mut command = Command::new(program);
    command.args(["harvest", "--device", device, "--host"]).arg(host);
    for hook in hooks {
        command.args(["--hook", hook]);
    }
    if let Some(length) = harvest.context_length {
        command.args(["--context-length", &length.to_string()]);
    }
    command.args(["--skip-positions", &harvest.skip_positions.to_string()]);
    command.args(["--bos", harvest.bos.name()]);
    command.args(["--special-tokens", harvest.special_tokens.name()]);
    if let Some(max_tokens) = recipe.max_tokens {
        command.args(["--max-tokens", &max_tokens.to_string()]);
    }
    for text in &recipe.texts {
        command.arg("--text").arg(text);
    }
    command
}

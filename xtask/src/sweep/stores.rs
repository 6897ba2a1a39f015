//! The activations of a sweep: harvested or planted once for each recipe, into `target/stores`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result, bail};
use sae_config::{HarvestConfig, read_json};
use serde::{Deserialize, Serialize};

use super::child::{self, Log};
use super::images::{ImageFolder, ImageSource};
use super::made;
use super::plan::Plan;
use super::progress::Spinner;
use super::source::{self, Planted, Recipe, Source};
use crate::exit::usage;
use crate::workspace::Workspace;

/// Where the activations are, and what runs are judged by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Activations {
    pub(super) train: PathBuf,
    pub(super) held_out: PathBuf,
    /// The host and its held-out texts, where cross-entropy can be measured.
    pub(super) texts: Option<HostTexts>,
    /// The host and its held-out images, where it sees images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) images: Option<HostImages>,
}

/// A host, and the images that it embeds with reconstructions spliced in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HostImages {
    pub(super) host: PathBuf,
    pub(super) hook: String,
    pub(super) folder: PathBuf,
}

/// A host, and what it reads to measure cross-entropy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HostTexts {
    pub(super) host: PathBuf,
    pub(super) texts: Vec<PathBuf>,
    pub(super) harvest: HarvestConfig,
    pub(super) max_tokens: Option<u64>,
}

/// Fetches the host and harvests, or plants, what is not there yet.
pub(super) fn prepare(workspace: &Workspace, plan: &Plan, program: &Path) -> Result<Activations> {
    let activations = make_all(workspace, plan, program)?;
    if let Some(made) = plan.source.made(workspace) {
        plan.check_made(made)
            .context("what this sweep made; delete a damaged store to have it made again")?;
    }
    Ok(activations)
}

fn make_all(workspace: &Workspace, plan: &Plan, program: &Path) -> Result<Activations> {
    let folder = source::stores_folder(workspace);
    std::fs::create_dir_all(&folder).map_err(|e| crate::wheel::explain(e, &folder))?;
    let hashes = plan.contents.kept();
    let (host, harvest, train, held_out) = match &plan.source {
        Source::Stores(pair) => {
            let [train, held_out] = pair.paths();
            let (train, held_out) = (train.canonicalize()?, held_out.canonicalize()?);
            return Ok(Activations { train, held_out, texts: None, images: None });
        }
        Source::Images(images) => {
            return harvest_images(workspace, images, &plan.devices[0], program, hashes);
        }
        Source::Planted { train, held_out } => {
            let plant = |name, planted| plant(name, planted, &folder, program, hashes);
            let (train, held_out) = (plant("train", train)?, plant("held-out", held_out)?);
            return Ok(Activations { train, held_out, texts: None, images: None });
        }
        Source::Host { host, harvest, train, held_out } => (host, harvest, train, held_out),
    };
    let host = host.fetch(workspace)?;
    let store = |name: &str, recipe: &Recipe| {
        let place = folder.join(&recipe.id);
        if !made::is_there(&place, hashes) {
            let mut command = Command::new(program);
            command.args(["harvest", "--device", &plan.devices[0], "--host"]).arg(&host);
            command.args(["--hook", &harvest.hook]);
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
            make(&mut command, &format!("harvesting {name} activations"), &place, hashes)?;
        }
        anyhow::Ok(place)
    };
    Ok(Activations {
        train: store("train", train)?,
        held_out: store("held-out", held_out)?,
        texts: Some(HostTexts {
            host,
            texts: held_out.texts.iter().map(|t| t.canonicalize()).collect::<Result<_, _>>()?,
            harvest: harvest.clone(),
            max_tokens: plan.config.evaluation.max_tokens,
        }),
        images: None,
    })
}

/// Fetches a vision host and harvests what is not there yet.
fn harvest_images(
    workspace: &Workspace,
    images: &ImageSource,
    device: &str,
    program: &Path,
    hashes: &Path,
) -> Result<Activations> {
    let host = images.host.fetch(workspace)?;
    let store = |name: &str, of: &ImageFolder| {
        let place = source::stores_folder(workspace).join(&of.id);
        if !made::is_there(&place, hashes) {
            let mut command = Command::new(program);
            command.args(["harvest", "--device", device, "--host"]).arg(&host);
            command.args(["--hook", &images.hook, "--images"]).arg(&of.folder);
            command.args(["--positions", images.positions.name()]);
            command.args(["--background", images.background.name()]);
            make(&mut command, &format!("harvesting {name} activations"), &place, hashes)?;
        }
        anyhow::Ok(place)
    };
    Ok(Activations {
        train: store("train", &images.train)?,
        held_out: store("held-out", &images.held_out)?,
        texts: None,
        images: Some(HostImages {
            hook: images.hook.clone(),
            folder: images.held_out.folder.canonicalize()?,
            host,
        }),
    })
}

/// Makes a planted store.
fn plant(
    name: &str,
    planted: &Planted,
    folder: &Path,
    program: &Path,
    hashes: &Path,
) -> Result<PathBuf> {
    let place = folder.join(&planted.id);
    if !made::is_there(&place, hashes) {
        let settings = place.with_extension("toml");
        sae_config::write_toml(&settings, &planted.settings)?;
        let mut command = Command::new(program);
        command.arg("plant").arg(&settings);
        make(&mut command, &format!("planting {name} activations"), &place, hashes)?;
    }
    Ok(place)
}

/// Makes a store in a folder beside `place`, which gets its name once it is whole.
fn make(command: &mut Command, what: &str, place: &Path, hashes: &Path) -> Result<()> {
    let log_path = place.with_extension("log");
    let mut spinner = Spinner::new(what.to_owned());
    let log = Log::open(&log_path, || spinner.tick("waiting for another sweep"))?;
    if made::is_there(place, hashes) {
        return Ok(());
    }
    made::set_aside(place)?;
    // What was killed goes on in the folder it left.
    let partial = place.with_extension("partial");
    command.arg("--out").arg(&partial);
    // A process that outlived its sweep has left a whole store there.
    if !is_whole(&partial) {
        let status = log.run(command, || spinner.tick(&child::tail(&log_path, 1)))?;
        check_made(status, what, &log_path)?;
    }
    made::write_down(&partial, place, hashes)?;
    std::fs::rename(&partial, place).with_context(|| place.display().to_string())?;
    if let Some(folder) = place.parent() {
        File::open(folder)?.sync_all()?;
    }
    spinner.done();
    Ok(())
}

/// Whether a folder holds a store that its writer has finished.
fn is_whole(store: &Path) -> bool {
    let manifest: Result<serde_json::Value, _> = read_json(&store.join("manifest.json"));
    manifest.is_ok_and(|manifest| manifest["complete"] == true)
}

/// Refuses what a process that failed has left.
fn check_made(status: ExitStatus, what: &str, log: &Path) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let end = child::tail(log, 10);
    let message = format!("{what} failed ({status}):\n{end}\n({})", log.display());
    match status.code() {
        Some(2) => bail!(usage(message)),
        _ => bail!(message),
    }
}

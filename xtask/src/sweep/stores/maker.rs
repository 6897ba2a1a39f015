//! Stores are made once for each recipe, whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result, bail};
use sae_config::read_json;

use crate::exit::usage;
use crate::sweep::child::{self, Log};
use crate::sweep::content::short_hash;
use crate::sweep::images::ImageSource;
use crate::sweep::made;
use crate::sweep::progress::Spinner;
use crate::sweep::source::{Ids, Planted};

/// Makes stores.
pub(super) struct Maker<'a> {
    /// Where they lie.
    pub(super) folder: &'a Path,
    /// Where hashes of files are kept.
    pub(super) hashes: &'a Path,
}

impl Maker<'_> {
    /// Harvests the stores of all hook points that are not there yet in one pass; `command` is the
    /// process for some of them.
    pub(super) fn harvest(
        &self,
        name: &str,
        ids: &Ids,
        command: impl Fn(&[&str]) -> Command,
    ) -> Result<()> {
        let places: Vec<(&str, PathBuf)> =
            ids.iter().map(|(hook, id)| (hook.as_str(), self.folder.join(id))).collect();
        self.make(&places, &format!("harvesting {name} activations"), command)
    }

    pub(super) fn harvest_images(
        &self,
        images: &ImageSource,
        host: &Path,
        device: &str,
        program: &Path,
    ) -> Result<()> {
        for (name, of) in [("train", &images.train), ("held-out", &images.held_out)] {
            let command = |hooks: &[&str]| {
                let mut command = Command::new(program);
                command.args(["harvest", "--device", device, "--host"]).arg(host);
                for hook in hooks {
                    command.args(["--hook", hook]);
                }
                command.arg("--images").arg(&of.folder);
                command.args(["--positions", images.positions.name()]);
                command.args(["--background", images.background.name()]);
                command
            };
            self.harvest(name, &of.ids, command)?;
        }
        Ok(())
    }

    /// Makes a planted store.
    pub(super) fn plant(&self, name: &str, planted: &Planted, program: &Path) -> Result<PathBuf> {
        let place = self.folder.join(&planted.id);
        if !made::is_there(&place, self.hashes) {
            let settings = place.with_extension("toml");
            sae_config::write_toml(&settings, &planted.settings)?;
            let command = |_: &[&str]| {
                let mut command = Command::new(program);
                command.arg("plant").arg(&settings);
                command
            };
            let what = format!("planting {name} activations");
            self.make(&[("", place.clone())], &what, command)?;
        }
        Ok(place)
    }

    /// Makes the stores that are not there yet beside their places, which get their names once all of
    /// them are whole; several in a folder of their own, each named as its hook point.
    fn make(
        &self,
        places: &[(&str, PathBuf)],
        what: &str,
        command: impl Fn(&[&str]) -> Command,
    ) -> Result<()> {
        let lacks = |place: &(&str, PathBuf)| !made::is_there(&place.1, self.hashes);
        if !places.iter().any(lacks) {
            return Ok(());
        }
        let base = match places {
            [(_, place)] => place.clone(),
            several => {
                let names: Vec<_> = several.iter().map(|(_, place)| place.display()).collect();
                let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                self.folder.join(short_hash(&names))
            }
        };
        let (log_path, partial) = (base.with_extension("log"), base.with_extension("partial"));
        let part = |hook: &str| match places.len() {
            1 => partial.clone(),
            _ => partial.join(hook),
        };
        let mut spinner = Spinner::new(what.to_owned());
        let log = Log::open(&log_path, || spinner.tick("waiting for another sweep"))?;
        let missing: Vec<_> = places.iter().filter(|place| lacks(place)).collect();
        missing.iter().try_for_each(|(_, place)| made::set_aside(place))?;
        let hooks: Vec<&str> = missing.iter().map(|(hook, _)| *hook).collect();
        // A process that outlived its sweep has left whole stores there; what was killed goes on.
        if !hooks.iter().all(|hook| is_whole(&part(hook))) {
            let mut command = command(&hooks);
            command.arg("--out").arg(if hooks.len() == 1 {
                part(hooks[0])
            } else {
                partial.clone()
            });
            let status = log.run(&mut command, || spinner.tick(&child::tail(&log_path, 1)))?;
            check_made(status, what, &log_path)?;
        }
        for (hook, place) in missing {
            made::write_down(&part(hook), place, self.hashes)?;
            std::fs::rename(part(hook), place).with_context(|| place.display().to_string())?;
        }
        // Of several, the folder is empty now.
        let _ = std::fs::remove_dir(&partial);
        File::open(self.folder)?.sync_all()?;
        spinner.done();
        Ok(())
    }
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

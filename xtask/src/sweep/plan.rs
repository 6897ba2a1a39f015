//! What a sweep will do, known before any process starts.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sae_config::{Suite, SweepConfig, SweepPoint, run_id};
use sae_data::{PlantedTruth, open_store};
use toml::{Table, Value};

use super::content::Contents;
use super::filter;
use super::inputs::Inputs;
use super::made;
use super::pages;
use super::pair::{self, Pair};
use super::runs_data;
use super::source::Source;
use super::stores::{Activations, HookStores};
use super::suites;
use crate::exit::usage;
use crate::pictures::Pictures;
use crate::workspace::Workspace;

/// A checked sweep: where its activations come from, and its runs.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) config: SweepConfig,
    pub(super) source: Source,
    /// Where runs compute.
    pub(super) devices: Vec<String>,
    pub(super) runs: Vec<PlannedRun>,
    /// The hashes of the files that runs read.
    pub(super) contents: Contents,
    /// What runs are judged by beside fidelity: those of the sweep file, unless others are set.
    pub(super) suites: Vec<Suite>,
}

/// One run of the sweep.
pub(super) struct PlannedRun {
    pub(super) id: String,
    pub(super) point: SweepPoint,
    /// Whether the filters let it through.
    pub(super) is_selected: bool,
}

impl Plan {
    /// Reads a bundled sweep by name or one's own by path, and checks all that can be checked.
    pub(super) fn load(
        workspace: &Workspace,
        sweep: &str,
        filters: &[String],
        devices: &[String],
    ) -> Result<Self> {
        let file = find(workspace, sweep)?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let mut config = SweepConfig::read(&file)?;
        let devices = set_devices(&mut config, devices);
        let mut points = config.points().map_err(|e| e.in_file(&file))?;
        let selected = filter::select(filters, &points)?;
        let in_file = || file.display().to_string();
        let contents = Contents::new(workspace);
        let folder = std::path::absolute(&file)?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        points.iter_mut().for_each(|point| point.config.root_paths(folder));
        let source = Source::new(workspace, &config, &points, &contents);
        let (source, data) = source.with_context(in_file)?;
        let mut runs = Vec::new();
        for (point, is_selected) in points.into_iter().zip(selected) {
            let data = data.get(config.hook_of(&point.config)).context("data of a hook point")?;
            let own = runs_data::content(&point.config, &contents).with_context(in_file)?;
            let id = run_id(&point.config.check()?, &format!("{data}{own}"));
            runs.push(PlannedRun { id, point, is_selected });
        }
        refuse_equal(&runs).with_context(in_file)?;
        pages::check(&config, &runs).with_context(in_file)?;
        let suites = suites::resolve(&[], &config).with_context(in_file)?;
        let plan = Self { name: stem.into(), config, source, devices, runs, contents, suites };
        plan.check_present(workspace).with_context(in_file)?;
        Ok(plan)
    }

    /// Checks the activations as far as they are there.
    fn check_present(&self, workspace: &Workspace) -> Result<()> {
        let made = self.source.made(workspace);
        match &self.source {
            Source::Stores(pair) => self.check_data("", pair),
            Source::Live(live) if made.is_empty() => {
                let given = live.given().map(|store| ("held_out.store", store));
                given.map_or(Ok(()), pair::check_held_out)
            }
            _ if made.values().flat_map(HookStores::paths).all(|store| self.is_made(store)) => {
                self.check_made(&made)
            }
            _ => Ok(()),
        }
    }

    /// Whether a store that a sweep makes is there.
    fn is_made(&self, store: &Path) -> bool {
        made::is_there(store, self.contents.kept())
    }

    /// Checks activations that a sweep has made, by hook point.
    pub(super) fn check_made(&self, made: &BTreeMap<String, HookStores>) -> Result<()> {
        for (hook, HookStores { train, held_out }) in made {
            let held_out = ("held-out activations", &**held_out);
            match train {
                Some(train) => {
                    let pair = Pair::open(("train activations", train), held_out)?;
                    self.check_data(hook, &pair)?;
                }
                None => pair::check_held_out(held_out)?,
            }
        }
        Ok(())
    }

    /// Checks all that the runs of a hook point read against what they ask for.
    fn check_data(&self, hook: &str, pair: &Pair) -> Result<()> {
        let configs = || {
            let configs = self.runs.iter().map(|run| &run.point.config);
            configs.filter(|config| hook.is_empty() || self.config.hook_of(config) == hook)
        };
        pair.check(configs().any(|config| runs_data::is_whole(&config.data)))?;
        runs_data::check(configs(), pair)
    }

    /// What the runs read, now that the activations are there.
    pub(super) fn inputs(&self, activations: &Activations) -> Result<Inputs> {
        let stores = match &self.source {
            Source::Stores(pair) => pair.hashes()?.to_vec(),
            _ => {
                let mut hashes = Vec::new();
                for stores in activations.stores.values() {
                    if let Some(truth) = PlantedTruth::file(&stores.held_out) {
                        self.contents.file("held-out activations", &truth)?;
                    }
                    for path in stores.paths() {
                        hashes.push((path, open_store(path)?.content_hash()?));
                    }
                }
                hashes
            }
        };
        Inputs::new(&self.contents, stores)
    }

    /// Pictures without which the ids of the runs are not known.
    pub(super) fn to_fetch(&self) -> Option<&'static Pictures> {
        match &self.source {
            Source::Images(images) => images.to_fetch,
            Source::Host { .. } | Source::Live(_) | Source::Stores(_) | Source::Planted { .. } => {
                None
            }
        }
    }

    /// The runs that the filters let through.
    pub(super) fn selected(&self) -> impl Iterator<Item = &PlannedRun> {
        self.runs.iter().filter(|run| run.is_selected)
    }

    /// Prints what would be done.
    pub(super) fn print(&self, out: &Path) -> Result<()> {
        say!("sweep {} into {}", self.name, out.display());
        self.source.print()?;
        for run in self.selected() {
            say!("{}  {}", run.id, run.point);
        }
        say!("{} runs", self.selected().count());
        Ok(())
    }
}

/// The sweep file that a name or path stands for.
fn find(workspace: &Workspace, sweep: &str) -> Result<PathBuf> {
    if sweep.ends_with(".toml") || sweep.contains('/') {
        return Ok(sweep.into());
    }
    let file = workspace.sweeps().join(sweep).with_extension("toml");
    if file.is_file() {
        return Ok(file);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(workspace.sweeps())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    bail!(usage(format!("expected one of the sweeps {names:?} or a file, got `{sweep}`")))
}

/// Refuses runs that differ in nothing that shapes their results: they would be one.
fn refuse_equal(runs: &[PlannedRun]) -> Result<()> {
    let mut known = HashMap::new();
    for run in runs {
        if let Some(other) = known.insert(&run.id, &run.point) {
            let expected = "runs that differ in what shapes their results";
            let got = format!("`{other}` and `{}`", run.point);
            bail!(sae_config::Error::value("axes", expected, got));
        }
    }
    Ok(())
}

/// Makes the first of the devices that of the base run; without any, it is the other way round.
fn set_devices(config: &mut SweepConfig, devices: &[String]) -> Vec<String> {
    let training = config.base.entry("training").or_insert_with(|| Table::new().into());
    let own = training.get("device").and_then(Value::as_str).unwrap_or("cpu").to_owned();
    let devices = if devices.is_empty() { vec![own] } else { devices.to_vec() };
    // What is no table is refused when the runs are made.
    if let Some(training) = training.as_table_mut() {
        training.insert("device".into(), devices[0].clone().into());
    }
    devices
}

#[cfg(test)]
mod tests;

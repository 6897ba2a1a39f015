//! What a sweep will do, known before any process starts.

use std::collections::HashMap;
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
use super::pair::Pair;
use super::runs_data;
use super::source::Source;
use super::stores::Activations;
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
        let points = config.points().map_err(|e| e.in_file(&file))?;
        let selected = filter::select(filters, &points)?;
        let in_file = || file.display().to_string();
        let contents = Contents::new(workspace);
        let (source, data) = Source::new(workspace, &config, &contents).with_context(in_file)?;
        let folder = std::path::absolute(&file)?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        let mut runs = Vec::new();
        for (mut point, is_selected) in points.into_iter().zip(selected) {
            point.config.root_paths(folder);
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
        match (&self.source, self.source.made(workspace)) {
            (Source::Stores(pair), _) => self.check_data(pair),
            (_, Some(made)) if made.iter().all(|store| self.is_made(store)) => {
                self.check_made(made)
            }
            _ => Ok(()),
        }
    }

    /// Whether a store that a sweep makes is there.
    fn is_made(&self, store: &Path) -> bool {
        made::is_there(store, self.contents.kept())
    }

    /// Checks activations that a sweep has made.
    pub(super) fn check_made(&self, [train, held_out]: [PathBuf; 2]) -> Result<()> {
        let (train, held_out) =
            (("train activations", &*train), ("held-out activations", &*held_out));
        let pair = Pair::open(train, held_out);
        pair.and_then(|pair| self.check_data(&pair))
    }

    /// Checks all that the runs read against what they ask for.
    fn check_data(&self, pair: &Pair) -> Result<()> {
        let configs = || self.runs.iter().map(|run| &run.point.config);
        pair.check(configs().any(|config| runs_data::is_whole(&config.data)))?;
        runs_data::check(configs(), pair)
    }

    /// What the runs read, now that the activations are there.
    pub(super) fn inputs(&self, activations: &Activations) -> Result<Inputs> {
        let made = |path| anyhow::Ok((path, open_store(path)?.content_hash()?));
        let stores = match &self.source {
            Source::Stores(pair) => pair.hashes()?,
            Source::Host { .. } | Source::Images(_) | Source::Planted { .. } => {
                if let Some(truth) = PlantedTruth::file(&activations.held_out) {
                    self.contents.file("held-out activations", &truth)?;
                }
                [made(&*activations.train)?, made(&*activations.held_out)?]
            }
        };
        Inputs::new(&self.contents, stores)
    }

    /// Pictures without which the ids of the runs are not known.
    pub(super) fn to_fetch(&self) -> Option<&'static Pictures> {
        match &self.source {
            Source::Images(images) => images.to_fetch,
            Source::Host { .. } | Source::Stores(_) | Source::Planted { .. } => None,
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
mod tests {
    use super::super::source::Planted;
    use super::*;

    const SWEEP: &str = r#"
        [host]
        name = "smollm2-135m"
        [harvest]
        hook = "resid_post.15"
        [texts]
        train = ["a.txt"]
        held_out = ["b.txt"]
        [base.sae]
        n_features = 64
        [base.training]
        steps = 100
        batch_size = 8
        [axes]
        architecture = ["topk", "soft"]
        k = [4, 8]
    "#;

    fn load(folder: &Path, filters: &[&str]) -> Result<Plan> {
        let file = folder.join("sweep.toml");
        let filters: Vec<_> = filters.iter().map(|f| (*f).to_owned()).collect();
        Plan::load(&Workspace::find(), file.to_str().unwrap(), &filters, &[])
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("sweep.toml", SWEEP), ("a.txt", "one"), ("b.txt", "two")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn ids(plan: &Plan) -> Vec<String> {
        plan.selected().map(|run| run.id.clone()).collect()
    }

    #[test]
    fn ids_depend_on_the_texts_but_not_on_their_place() {
        let (here, there) = (folder(), folder());
        let before = ids(&load(here.path(), &[]).unwrap());
        assert_eq!(before, ids(&load(there.path(), &[]).unwrap()));
        std::fs::write(there.path().join("b.txt"), "three").unwrap();
        let after = ids(&load(there.path(), &[]).unwrap());
        assert!(before.iter().all(|id| !after.contains(id)));
    }

    #[test]
    fn missing_inputs_are_named() {
        let folder = folder();
        std::fs::remove_file(folder.path().join("b.txt")).unwrap();
        let error = crate::exit::message(&load(folder.path(), &[]).err().unwrap());
        assert!(error.contains("texts.held_out") && error.contains("b.txt"), "{error}");
        let none =
            Plan::load(&Workspace::find(), "no-such-sweep", &[], &[]).err().unwrap().to_string();
        assert!(none.contains("quickstart") && none.contains("no-such-sweep"), "{none}");
    }

    #[test]
    fn planted_rows_follow_one_another_and_decide_the_ids() {
        let folder = folder();
        let runs = SWEEP.split("[base.sae]").nth(1).unwrap();
        let plan = |k_max: u64| {
            let source = format!("train_rows = 90\nheld_out_rows = 10\ndata.k_max = {k_max}");
            let text = format!("[planted]\n{source}\n[base.sae]{runs}");
            std::fs::write(folder.path().join("sweep.toml"), text).unwrap();
            load(folder.path(), &[]).unwrap()
        };
        let six = plan(6);
        let Source::Planted { train, held_out } = &six.source else { panic!("not planted") };
        let integer = |planted: &Planted, key| planted.settings["planted"][key].as_integer();
        assert_eq!((integer(train, "first_row"), integer(train, "n_rows")), (Some(0), Some(90)));
        assert_eq!(
            (integer(held_out, "first_row"), integer(held_out, "n_rows")),
            (Some(90), Some(10))
        );
        assert_eq!(integer(held_out, "k_max"), Some(6));
        assert_eq!(ids(&six), ids(&plan(6)));
        assert_ne!(ids(&six), ids(&plan(7)));
    }

    #[test]
    fn the_bundled_sweeps_are_valid() {
        let workspace = Workspace::find();
        for entry in std::fs::read_dir(workspace.sweeps()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "toml") {
                Plan::load(&workspace, path.to_str().unwrap(), &[], &[]).unwrap();
            }
        }
    }
}

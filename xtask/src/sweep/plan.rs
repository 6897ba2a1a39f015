//! What a sweep will do, known before any process starts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sae_config::{
    BosPolicy, HarvestConfig, PlantedStoresConfig, SpecialTokens, SweepConfig, SweepPoint, run_id,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use super::filter;
use crate::assets::{self, Asset};
use crate::exit::usage;
use crate::wheel;
use crate::workspace::Workspace;

/// A checked sweep: where its activations come from, and its runs.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) config: SweepConfig,
    pub(super) source: Source,
    /// Where runs compute.
    pub(super) devices: Vec<String>,
    pub(super) runs: Vec<PlannedRun>,
}

/// Where activations come from.
pub(super) enum Source {
    /// They are harvested from a host.
    Host { host: Host, harvest: HarvestConfig, train: Recipe, held_out: Recipe },
    /// They exist.
    Stores { train: PathBuf, held_out: PathBuf },
    /// They are made of known features.
    Planted { train: Planted, held_out: Planted },
}

/// What a planted store is made from.
pub(super) struct Planted {
    /// Hash of the settings.
    pub(super) id: String,
    /// What `softsae plant` reads.
    pub(super) settings: Table,
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
        let (source, data) = Source::of(&config).with_context(|| file.display().to_string())?;
        let selected = filter::select(filters, &points)?;
        let mut runs = Vec::new();
        for (mut point, is_selected) in points.into_iter().zip(selected) {
            let config = &mut point.config;
            let mut id = run_id(config, &data);
            config.root_paths(std::path::absolute(&file)?.parent().unwrap_or(Path::new("/")));
            if let Some(init) = &config.training.init {
                let init = fingerprint("training.init", init)?;
                id = run_id(config, &format!("{data}, init {init}"));
            }
            runs.push(PlannedRun { id, point, is_selected });
        }
        Ok(Self { name: stem.into(), config, source, devices, runs })
    }

    /// The runs that the filters let through.
    pub(super) fn selected(&self) -> impl Iterator<Item = &PlannedRun> {
        self.runs.iter().filter(|run| run.is_selected)
    }

    /// Prints what would be done.
    pub(super) fn print(&self, out: &Path) -> Result<()> {
        say!("sweep {} into {}", self.name, out.display());
        match &self.source {
            Source::Host { harvest, train, held_out, .. } => {
                for (name, recipe) in [("train", train), ("held-out", held_out)] {
                    let (id, n) = (&recipe.id, recipe.texts.len());
                    say!("{name} activations {id}: {} of {n} texts", harvest.hook);
                }
            }
            Source::Stores { train, held_out } => {
                say!("train activations: {}", train.display());
                say!("held-out activations: {}", held_out.display());
            }
            Source::Planted { train, held_out } => {
                for (name, planted) in [("train", train), ("held-out", held_out)] {
                    say!("{name} activations {}: {} planted rows", planted.id, planted.n_rows());
                }
            }
        }
        for run in self.selected() {
            say!("{}  {}", run.id, run.point);
        }
        say!("{} runs", self.selected().count());
        Ok(())
    }
}

impl Source {
    /// The source of a checked sweep, and what stands for its data in the ids of runs.
    fn of(config: &SweepConfig) -> Result<(Self, String)> {
        if let Some(stores) = &config.stores {
            let train = fingerprint("stores.train", &stores.train)?;
            let held_out = fingerprint("stores.held_out", &stores.held_out)?;
            let source =
                Self::Stores { train: stores.train.clone(), held_out: stores.held_out.clone() };
            return Ok((source, format!("train {train}, held out {held_out}")));
        }
        if let Some(planted) = &config.planted {
            let (train, held_out) = Planted::pair(planted)?;
            let data = format!("train {}, held out {}", train.id, held_out.id);
            return Ok((Self::Planted { train, held_out }, data));
        }
        let (Some(host), Some(harvest), Some(texts)) =
            (&config.host, &config.harvest, &config.texts)
        else {
            bail!(usage("expected `host`, `harvest` and `texts`, or `stores` or `planted`"));
        };
        let (host, host_id) = match (&host.name, &host.path) {
            (Some(name), _) => {
                let asset = assets::find(name)?;
                (Host::Pinned(asset), asset.sha256().to_owned())
            }
            (None, Some(path)) => (Host::Own(path.clone()), fingerprint("host.path", path)?),
            (None, None) => bail!(usage("host: expected `name` or `path`, got neither")),
        };
        let harvest = harvest.clone();
        let recipe = |key: &str, texts: &[PathBuf], max_tokens: Option<u64>| {
            Recipe::new(&host_id, &harvest, key, texts, max_tokens)
        };
        let train = recipe("texts.train", &texts.train, harvest.max_tokens)?;
        let held_out = recipe("texts.held_out", &texts.held_out, None)?;
        let judged = match config.evaluation.max_tokens {
            Some(max_tokens) => format!(", {max_tokens} tokens of each text"),
            None => String::new(),
        };
        let data = format!("train {}, held out {}{judged}", train.id, held_out.id);
        Ok((Self::Host { host, harvest, train, held_out }, data))
    }
}

impl Planted {
    /// The stores to train on and to judge by: the rows of the second follow those of the first.
    fn pair(config: &PlantedStoresConfig) -> Result<(Self, Self)> {
        let new = |first_row: u64, n_rows: u64| {
            let mut data = config.data.clone();
            for (key, value) in [("first_row", first_row), ("n_rows", n_rows)] {
                let value = i64::try_from(value).map_err(|e| usage(format!("planted: {e}")))?;
                data.insert(key.into(), Value::Integer(value));
            }
            let settings = Table::from_iter([("planted".to_owned(), Value::Table(data))]);
            anyhow::Ok(Self { id: short_hash(&serde_json::to_string(&settings)?), settings })
        };
        Ok((new(0, config.train_rows)?, new(config.train_rows, config.held_out_rows)?))
    }

    fn n_rows(&self) -> &Value {
        &self.settings["planted"]["n_rows"]
    }
}

impl Recipe {
    fn new(
        host: &str,
        harvest: &HarvestConfig,
        key: &str,
        texts: &[PathBuf],
        max_tokens: Option<u64>,
    ) -> Result<Self> {
        #[derive(Serialize)]
        struct Identity<'a> {
            host: &'a str,
            hook: &'a str,
            context_length: Option<usize>,
            skip_positions: usize,
            bos: BosPolicy,
            special_tokens: SpecialTokens,
            max_tokens: Option<u64>,
            texts: Vec<String>,
        }
        let hash = |path: &PathBuf| wheel::hash(path).map_err(|e| usage(format!("{key}: {e:#}")));
        let identity = Identity {
            host,
            hook: &harvest.hook,
            context_length: harvest.context_length,
            skip_positions: harvest.skip_positions,
            bos: harvest.bos,
            special_tokens: harvest.special_tokens,
            max_tokens,
            texts: texts.iter().map(hash).collect::<Result<_>>()?,
        };
        let id = short_hash(&serde_json::to_string(&identity)?);
        Ok(Self { id, texts: texts.to_vec(), max_tokens })
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

/// What stands for a large file or folder of the user's: its place, and size and date of each file.
fn fingerprint(key: &str, path: &Path) -> Result<String> {
    let missing = |e: std::io::Error| usage(format!("{key}: {}: {e}", path.display()));
    let mut found = Vec::new();
    let mut left = vec![path.canonicalize().map_err(missing)?];
    while let Some(path) = left.pop() {
        let metadata = path.metadata().map_err(missing)?;
        if metadata.is_dir() {
            for entry in path.read_dir().map_err(missing)? {
                left.push(entry.map_err(missing)?.path());
            }
        } else {
            found.push(format!("{path:?} {} {:?}", metadata.len(), metadata.modified()?));
        }
    }
    found.sort();
    Ok(short_hash(&found.join("\n")))
}

fn short_hash(text: &str) -> String {
    Sha256::digest(text)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
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
    fn stores_are_known_by_place_size_and_date() {
        let folder = folder();
        let text = SWEEP.split("[base.sae]").nth(1).unwrap();
        let text = format!("[stores]\ntrain = 'a.txt'\nheld_out = 'b.txt'\n[base.sae]{text}");
        std::fs::write(folder.path().join("sweep.toml"), text).unwrap();
        let before = ids(&load(folder.path(), &[]).unwrap());
        assert_eq!(before, ids(&load(folder.path(), &[]).unwrap()));
        std::fs::write(folder.path().join("a.txt"), "longer").unwrap();
        assert_ne!(before, ids(&load(folder.path(), &[]).unwrap()));
        std::fs::remove_file(folder.path().join("a.txt")).unwrap();
        let error = crate::exit::message(&load(folder.path(), &[]).err().unwrap());
        assert!(error.contains("stores.train"), "{error}");
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

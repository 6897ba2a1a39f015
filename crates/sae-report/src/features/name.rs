//! What pages are called, and where the report is that they belong to.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sae_config::{FeatureSet, read_json};
use serde_json::Value;

/// The name of the folder that a training run writes its model to.
const CHECKPOINT: &str = "checkpoint";

/// The report of a sweep, from the folder of a run's pages.
const REPORT: &str = "../../../report.html";

/// The run's name, architecture and k, as far as its folder tells them; a run of a sweep is named after both.
pub(super) fn title(set: &FeatureSet) -> String {
    let given = Path::new(&set.checkpoint);
    let path = given.canonicalize().unwrap_or_else(|_| given.to_owned());
    let run = match path.parent() {
        Some(run) if path.file_name() == Some(OsStr::new(CHECKPOINT)) => run,
        _ => path.as_path(),
    };
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = last(run).unwrap_or_else(|| set.checkpoint.clone());
    let name = match sweep_of(run).as_deref().and_then(last) {
        Some(sweep) => format!("{sweep} / {name}"),
        None => name,
    };
    let k = k_of(run).map_or_else(String::new, |k| format!(", k {k}"));
    format!("{name} · {}{k}", set.architecture)
}

/// The address of the sweep's report from pages in `folder`, if they lie in the folder of one of its runs.
pub(super) fn report(folder: &Path) -> Option<&'static str> {
    let folder = folder.canonicalize().ok()?;
    sweep_of(folder.parent()?).map(|_| REPORT)
}

/// The folder of the sweep that `run` is the folder of a run of.
fn sweep_of(run: &Path) -> Option<PathBuf> {
    let result: Value = read_json(&run.join("result.json")).ok()?;
    let (id, runs) = (run.file_name()?, run.parent()?);
    let is_own = result["run_id"].as_str().map(OsStr::new) == Some(id);
    (is_own && runs.file_name() == Some(OsStr::new("runs")))
        .then(|| runs.parent())?
        .map(Path::to_owned)
}

/// The number of active features that a run aims at, where its settings have one.
fn k_of(run: &Path) -> Option<String> {
    let settings = std::fs::read_to_string(run.join("run.toml")).ok()?;
    let settings: toml::Table = settings.parse().ok()?;
    let own = settings.get("architecture")?.as_table()?;
    let number = |key: &str| {
        own.get(key).and_then(|value| {
            value
                .as_integer()
                .map(|k| k.to_string())
                .or_else(|| value.as_float().map(|k| k.to_string()))
        })
    };
    number("k").or_else(|| number("target_l0"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn set(checkpoint: &Path) -> FeatureSet {
        let checkpoint = checkpoint.display().to_string();
        FeatureSet { checkpoint, architecture: "soft".into(), ..FeatureSet::default() }
    }

    #[test]
    fn pages_are_called_by_what_is_known_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("small/runs/3bd6bbd1df56");
        let [checkpoint, pages] = ["checkpoint", "features"].map(|name| run.join(name));
        assert_eq!(title(&set(Path::new("/away/first/checkpoint"))), "first · soft");
        assert_eq!(title(&set(Path::new("away/mine"))), "mine · soft");
        for folder in [&checkpoint, &pages] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(run.join("run.toml"), "[architecture]\nname = 'soft'\nk = 32\n").unwrap();
        assert_eq!(title(&set(&checkpoint)), "3bd6bbd1df56 · soft, k 32");
        assert_eq!(report(&pages), None);
        fs::write(run.join("result.json"), r#"{"run_id": "another"}"#).unwrap();
        assert_eq!(report(&pages), None);
        fs::write(run.join("result.json"), r#"{"run_id": "3bd6bbd1df56"}"#).unwrap();
        assert_eq!(title(&set(&checkpoint)), "small / 3bd6bbd1df56 · soft, k 32");
        fs::write(folder.path().join("small/report.html"), "").unwrap();
        assert!(pages.join(report(&pages).unwrap()).is_file());
        fs::write(run.join("run.toml"), "[architecture]\ntarget_l0 = 4.5\n").unwrap();
        assert_eq!(title(&set(&checkpoint)), "small / 3bd6bbd1df56 · soft, k 4.5");
    }
}

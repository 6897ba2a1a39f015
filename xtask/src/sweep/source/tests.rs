//! What stands for the data of sweeps.

use std::fs;
use std::path::Path;

use sae_data::PlantedConfig;

use super::*;

/// What stands for the data of a sweep file in this folder.
fn data(folder: &Path, sweep: &str) -> String {
    let file = folder.join("sweep.toml");
    fs::write(
        &file,
        format!(
            "{sweep}\n[base]\nsae.n_features = 8\narchitecture = {{ name = 'topk', k = 2 }}\n\
         training = {{ steps = 1, batch_size = 4 }}\n"
        ),
    )
    .unwrap();
    let config = SweepConfig::read(&file).unwrap();
    let points = config.points().unwrap();
    let workspace = Workspace::at(folder);
    let (_, data) = Source::new(&workspace, &config, &points, &Contents::new(&workspace)).unwrap();
    data.into_values().next().unwrap()
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

//! What must not be lost or taken for something else: inputs under outputs, ended runs, files that
//! were replaced by others of the same length and time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::{fail, str, succeed};

/// A `.npy` file of 200 rows of 8 numbers, each `factor` times what a small generator gives.
fn npy(path: &Path, factor: f32) {
    let mut header =
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (200, 8), }"
            .to_vec();
    header.resize(127, b' ');
    header.push(b'\n');
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let rows = (0..1600).flat_map(|_| (factor * next()).to_le_bytes());
    fs::write(path, header.into_iter().chain(rows).collect::<Vec<u8>>()).expect("writes");
}

fn run_file(folder: &Path, data: &str, normalization: &str) -> PathBuf {
    let text = format!(
        "# my comment\n[data]\n{data}\n[sae]\nn_features = 16\nnormalization = '{normalization}'\n\
         [architecture]\nname = 'topk'\nk = 2\n[training]\nsteps = 20\nbatch_size = 32\n"
    );
    let path = folder.join("run.toml");
    fs::write(&path, text).expect("writes");
    path
}

/// A folder with `a.npy` and `b.npy`, and a run on the first in `r`.
fn trained() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    npy(&folder.path().join("a.npy"), 1.0);
    npy(&folder.path().join("b.npy"), 7.0);
    let config = run_file(folder.path(), "store = 'a.npy'", "shift_scale");
    let out = folder.path().join("r").display().to_string();
    succeed(["train", str(&config), "--out", &out]);
    (folder, config, out)
}

#[test]
fn an_ended_run_is_not_that_of_other_data() {
    let (folder, config, out) = trained();
    let resume = ["train", str(&config), "--out", &out, "--resume"];
    succeed(resume);
    let rows = folder.path().join("rows.txt");
    fs::write(&rows, "0\n1\n2\n").expect("writes");
    for data in ["store = 'b.npy'", "store = 'a.npy'\nrows = 'rows.txt'"] {
        run_file(folder.path(), data, "shift_scale");
        fail(resume, 2, &["data.store", "activations of hash"]);
    }
    run_file(folder.path(), "store = 'a.npy'", "shift_scale");
    npy(&folder.path().join("a.npy"), 3.0);
    fail(resume, 2, &["data.store", "activations of hash"]);
    npy(&folder.path().join("a.npy"), 1.0);
    succeed(resume);
    let weights = Path::new(&out).join("checkpoint/sae.safetensors");
    fs::write(&weights, "cut off").expect("writes");
    fail(resume, 1, &["sae.safetensors"]);
    fs::remove_file(&weights).expect("removes");
    fail(resume, 1, &["sae.safetensors"]);
}

#[test]
fn another_file_of_the_same_length_and_time_is_another_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (a, b) = (folder.path().join("a.npy"), folder.path().join("b.npy"));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let hash = |path: &Path| {
        fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        let said = succeed(["inspect", str(path)]);
        said.lines().find(|line| line.starts_with("content hash")).expect("a hash").to_owned()
    };
    npy(&a, 1.0);
    npy(&b, 7.0);
    let (of_a, of_b) = (hash(&a), hash(&b));
    assert_ne!(of_a, of_b);
    fs::rename(&b, &a).expect("renames");
    assert_eq!(hash(&a), of_b);
}

#[test]
fn an_output_does_not_replace_an_input() {
    let (folder, config, out) = trained();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (checkpoint, store) = (format!("{out}/checkpoint"), at("a.npy"));
    let all = || {
        let files = [
            store.clone(),
            format!("{checkpoint}/sae.json"),
            format!("{checkpoint}/sae.safetensors"),
        ];
        files.map(|file| fs::read(file).expect("reads"))
    };
    let before = all();
    for place in [store.clone(), format!("{checkpoint}/sae.json")] {
        fail(["eval", &checkpoint, "--data", &store, "--out", &place], 2, &["--out", &place]);
    }
    fail(["convert", &store, "--out", &store, "--format", "npy", "--dtype", "f16"], 2, &["--out"]);
    fail(["encode", &checkpoint, "--data", &store, "--out", &checkpoint], 2, &["--out"]);
    let inside = format!("{checkpoint}/new/place");
    fail(["encode", &checkpoint, "--data", &store, "--out", &inside], 2, &["--out", &inside]);
    let native = at("native");
    succeed(["convert", &store, "--out", &native]);
    let own = run_file(folder.path(), "store = 'native'", "none");
    for place in [native.clone(), format!("{native}/run")] {
        fail(["train", str(&own), "--out", &place], 2, &["--out", &place]);
    }
    fail(["export", &checkpoint, "--format", "sparsify", "--out", &checkpoint], 2, &["--out"]);
    let exported = at("exported");
    succeed(["export", &checkpoint, "--format", "sparsify", "--out", &exported]);
    for place in [&checkpoint, &exported] {
        fail(["import", &exported, "--format", "sparsify", "--out", place], 2, &["--out", place]);
    }
    assert!(all() == before, "an input was changed");

    // A run file that is to be replaced by the resolved one stays, with its comments.
    let text = fs::read(&config).expect("reads");
    succeed(["train", str(&config), "--out", str(folder.path())]);
    assert_eq!(fs::read(folder.path().join("run.written.toml")).expect("reads"), text);
}

#[test]
fn a_failed_copy_is_not_in_the_way_of_the_next() {
    let (folder, _, _) = trained();
    let at = |name: &str| folder.path().join(name).display().to_string();
    npy(&folder.path().join("big.npy"), 1e6);
    let copy = |dtype| {
        ["convert".to_owned(), at("big.npy"), "--out".into(), at("n"), "--dtype".into(), dtype]
    };
    fail(copy("f16".into()).iter().map(String::as_str), 2, &["f16 can hold"]);
    succeed(copy("f32".into()).iter().map(String::as_str));
}

#[test]
fn silly_numbers_are_mistakes_of_usage() {
    let (folder, _, out) = trained();
    let (checkpoint, store) = (format!("{out}/checkpoint"), folder.path().join("a.npy"));
    for ratio in ["nan", "1", "inf", "0.5"] {
        let eval = ["eval", &checkpoint, "--data", str(&store), "--max-norm-ratio", ratio];
        fail(eval, 2, &["--max-norm-ratio"]);
    }
    for n_threads in ["0", "2000", "100000"] {
        fail(["--threads", n_threads, "inspect", str(&store)], 2, &["--threads"]);
    }
}

/// The allocation of the trained k is the reconstruction itself, whatever the scale of the rows.
#[test]
fn the_same_features_in_every_row_explain_what_the_model_explains() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("a.npy");
    for (i, (normalization, factor)) in [
        ("layer_norm", 1.0),
        ("layer_norm", 1e-5),
        ("scale", 1e-22),
        ("scale", 1e18),
        ("unit_norm", 1e19),
    ]
    .into_iter()
    .enumerate()
    {
        npy(&store, factor);
        let config = run_file(folder.path(), "store = 'a.npy'", normalization);
        let (out, json) = (folder.path().join(format!("r{i}")), folder.path().join("e.json"));
        succeed(["train", str(&config), "--out", str(&out)]);
        let checkpoint = out.join("checkpoint");
        succeed(["eval", str(&checkpoint), "--data", str(&store), "--out", str(&json)]);
        let text = fs::read_to_string(&json).expect("reads");
        let evaluation: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let number = |pointer: &str| evaluation.pointer(pointer).and_then(|v| v.as_f64());
        let r2 = number("/reconstruction/r2").expect("a number");
        let uniform = number("/allocation/r2_uniform").expect("a number");
        let l0 = number("/allocation/l0").expect("a number");
        assert!((l0 - 2.0).abs() < 0.05, "{normalization} {factor}: L0 {l0}");
        assert!((r2 - uniform).abs() < 0.01, "{normalization} {factor}: {uniform}, not {r2}");
    }
}

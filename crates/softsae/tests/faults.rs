//! What happens to a store or a folder while or before a run uses it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};

use crate::signals::{n_lines, signal, start, wait_until};
use crate::{fail, metrics, plant, run_toml, softsae_program, str, succeed, text};

const TOPK: &str = "name = \"topk\"\nk = 3";

/// Trains on a store to which `fault` happens after the first steps.
fn train_through(store: &Path, steps: u64, fault: impl FnOnce(&Path)) -> Output {
    let (config, out) = (store.with_file_name("run.toml"), store.with_file_name("run"));
    fs::write(&config, run_toml(store, TOPK, steps)).expect("writes");
    let mut child = start(&["train", str(&config), "--out", str(&out), "--threads", "1"]);
    wait_until(&mut child, || n_lines(&out) > 1);
    // The run stands still while it happens.
    signal(&child, "STOP");
    fault(&store.join("shard-00000.safetensors"));
    signal(&child, "CONT");
    child.wait_with_output().expect("ended")
}

fn fails_through(fault: impl FnOnce(&Path), words: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    plant(&store, 1000, 16);
    let output = train_through(&store, 10_000_000, fault);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for word in words.iter().chain(&["shard-00000.safetensors"]) {
        assert!(stderr.contains(word), "expected {word:?} in: {stderr}");
    }
}

/// Flips a bit of row 21.
fn flip_bit(shard: &Path) {
    let file = File::options().read(true).write(true).open(shard).expect("opens");
    let (offset, mut byte) = (1024 + 21 * 16 * 4 + 5, [0]);
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("writes");
}

#[test]
fn a_shard_truncated_during_a_run() {
    let truncate = |shard: &Path| {
        File::options().write(true).open(shard).expect("opens").set_len(5000).expect("truncates");
    };
    fails_through(truncate, &["changed since it was opened", "got 5000 bytes"]);
}

#[test]
fn a_shard_written_over_during_a_run() {
    fails_through(flip_bit, &["changed since it was opened"]);
}

/// As a failing disk does it, without a trace in the file's times.
#[test]
fn a_bit_of_a_shard_flipped_during_a_run() {
    let rot = |shard: &Path| {
        let modified = fs::metadata(shard).expect("a shard").modified().expect("a time");
        flip_bit(shard);
        let file = File::options().write(true).open(shard).expect("opens");
        file.set_modified(modified).expect("sets the time");
    };
    fails_through(rot, &["row 21: checksum mismatch"]);
}

/// A file renamed into the place of a shard changes nothing for the run that has it open, and
/// every later one refuses it.
#[test]
fn a_shard_replaced_during_a_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (store, other, whole) = (at("store"), at("other"), at("whole"));
    plant(&store, 1000, 16);
    let planted = fs::read_to_string(at("store.toml")).expect("reads") + "seed = 1\n";
    fs::write(at("other.toml"), planted).expect("writes");
    succeed(["plant", str(&at("other.toml")), "--out", str(&other)]);
    let config = at("run.toml");
    fs::write(&config, run_toml(&store, TOPK, 2000)).expect("writes");
    succeed(["train", str(&config), "--out", str(&whole), "--threads", "1"]);

    let output = train_through(&store, 2000, |shard| {
        fs::rename(other.join("shard-00000.safetensors"), shard).expect("replaces");
    });
    assert!(output.status.success(), "{}", text(&output.stderr));
    let weights = |run: &Path| fs::read(run.join("checkpoint/sae.safetensors")).expect("weights");
    assert!(weights(&whole) == weights(&at("run")), "the open file is read to its end");
    assert_eq!(metrics(&whole), metrics(&at("run")));
    let words = ["shard-00000.safetensors", "checksum mismatch"];
    fail(["train", str(&config), "--out", str(&at("again"))], 2, &words);
}

#[test]
fn a_value_that_is_not_finite_at_row_1000003() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let store = at("big_1000010_2.npy");
    for (value, got, normalization) in
        [(f32::NAN, "NaN", "shift_scale"), (f32::INFINITY, "inf", "none")]
    {
        let mut bytes: Vec<u8> =
            (0..2 * 1_000_010_u32).flat_map(|i| ((i % 97) as f32).to_le_bytes()).collect();
        bytes[8 * 1_000_003 + 4..][..4].copy_from_slice(&value.to_le_bytes());
        fs::write(&store, bytes).expect("writes");
        let config = at("run.toml");
        let normalized = format!("n_features = 256\nnormalization = \"{normalization}\"");
        let text = run_toml(&store, TOPK, 100_000).replace("n_features = 256", &normalized);
        fs::write(&config, text).expect("writes");
        let out = at(got);
        let message = format!("row 1000003, column 1: expected a finite value, got {got}");
        fail(["train", str(&config), "--out", str(&out)], 1, &["big_1000010_2.npy", &message]);
        assert!(!out.join("checkpoint").exists());
        assert!(succeed(["inspect", str(&store)]).contains("1 rows"));
    }
}

#[test]
fn a_directory_in_place_of_a_file_and_the_reverse() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (store, config, out) = (at("store"), at("run.toml"), at("out"));
    plant(&store, 200, 16);
    fs::write(&config, run_toml(&store, TOPK, 10)).expect("writes");
    let (directory, file) = (at("a directory"), at("a file"));
    fs::create_dir(&directory).expect("makes");
    fs::write(&file, "text").expect("writes");
    let is_directory = ["a directory", "Is a directory"];
    fail(["train", str(&directory), "--out", str(&out)], 2, &is_directory);
    fail(["inspect", str(&directory)], 2, &["a directory", "none of them"]);
    fail(["inspect", str(&file)], 2, &["a file", "headerless"]);
    fail(["train", str(&config), "--out", str(&file)], 1, &["a file"]);
    let metrics = out.join("metrics.jsonl");
    fs::create_dir_all(&metrics).expect("makes");
    fail(["train", str(&config), "--out", str(&out)], 1, &[str(&metrics), "Is a directory"]);
    let shard = store.join("shard-00000.safetensors");
    fs::remove_file(&shard).expect("removes");
    fs::create_dir(&shard).expect("makes");
    fail(["inspect", str(&store)], 2, &[str(&shard), "expected a file, got a directory"]);
}

#[test]
fn names_with_spaces_and_any_letters() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("активации 数据 ü 'quoted'");
    fs::create_dir(&place).expect("makes");
    let at = |name: &str| place.join(name);
    let (store, config, run) = (at("my store"), at("my run.toml"), at("прогон 1"));
    plant(&store, 200, 16);
    fs::write(&config, run_toml(&store, TOPK, 20)).expect("writes");
    succeed(["train", str(&config), "--out", str(&run)]);
    let (checkpoint, codes, json) = (run.join("checkpoint"), at("códigos"), at("é val.json"));
    succeed(["eval", str(&checkpoint), "--data", str(&store), "--out", str(&json)]);
    succeed(["encode", str(&checkpoint), "--data", str(&store), "--out", str(&codes)]);
    let copy = at("größe 1_200_16.npy");
    succeed(["convert", str(&store), "--out", str(&copy), "--format", "headerless"]);
    for path in [&copy, &store, &checkpoint] {
        succeed(["inspect", str(path)]);
    }
    assert!(json.is_file() && codes.join("codes.json").is_file());
}

/// The superuser may do anything, so as such the child gives up that right.
#[test]
fn permission_denied() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (store, config, closed) = (at("store"), at("run.toml"), at("closed"));
    plant(&store, 200, 16);
    fs::write(&config, run_toml(&store, TOPK, 10)).expect("writes");
    fs::create_dir(&closed).expect("makes");
    let superuser = fs::metadata(folder.path()).expect("a folder").uid() == 0;
    let denied = |args: &[&str], code: i32, path: &Path| {
        let mut command = Command::new(softsae_program());
        if superuser {
            command = Command::new("setpriv");
            command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
            command.arg(softsae_program());
        }
        let output = command.args(args).output().expect("starts");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(str(path)) && stderr.contains("Permission denied"), "{stderr}");
    };
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    mode(&closed, 0o555);
    let inside = closed.join("run");
    denied(&["train", str(&config), "--out", str(&inside)], 1, &inside);
    denied(&["convert", str(&store), "--out", str(&inside)], 1, &inside);
    let shard = store.join("shard-00000.safetensors");
    mode(&shard, 0o000);
    denied(&["train", str(&config), "--out", str(&at("out"))], 2, &shard);
    denied(&["inspect", str(&store)], 2, &shard);
    mode(&config, 0o000);
    denied(&["train", str(&config), "--out", str(&at("out"))], 2, &config);
    mode(&closed, 0o755);
}

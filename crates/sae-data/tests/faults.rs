//! Damage: each kind is an error that names the file and, where there is one, the row.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sae_data::{Dtype, Error, Loader, LoaderConfig, RowMeta, Statistics, StoreWriter, open_store};

use crate::flat::write_npy;
use crate::support::{meta, read_all, rows, spec, store, write_store};

fn flip_bit(path: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn truncate(path: &Path, by: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

#[test]
fn a_truncated_file_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    write_store(&dir.path().join("native"), 40, spec(4, 16, Dtype::F16));
    write_npy(&dir.path().join("x.npy"), Dtype::F16, 0..40, 4);
    for (store, file) in [("native", "native/shard-00001.safetensors"), ("x.npy", "x.npy")] {
        let file = dir.path().join(file);
        truncate(&file, 1);
        let error = open_store(&dir.path().join(store)).unwrap_err();
        assert!(
            matches!(&error, Error::Length { path, expected, got } if *path == file && got + 1 == *expected),
            "{error}"
        );
    }
}

#[test]
fn a_missing_shard_or_manifest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_store(dir.path(), 40, spec(4, 16, Dtype::F16));
    let shard = dir.path().join("shard-00001.safetensors");
    std::fs::remove_file(&shard).unwrap();
    let error = open_store(dir.path()).unwrap_err().to_string();
    assert!(error.starts_with(&shard.display().to_string()), "{error}");
    std::fs::remove_file(dir.path().join("manifest.json")).unwrap();
    assert!(open_store(dir.path()).is_err());
    let gone = dir.path().join("gone");
    assert!(open_store(&gone).unwrap_err().to_string().contains("gone"));
}

#[test]
fn a_flipped_bit_is_found_and_its_row_named() {
    let dir = tempfile::tempdir().unwrap();
    write_store(dir.path(), 40, spec(4, 16, Dtype::F16));
    let shard = dir.path().join("shard-00001.safetensors");
    flip_bit(&shard, 1024 + 5 * 8 + 3);
    let store = open_store(dir.path()).unwrap();
    let mut row = [0.0; 4];
    store.read_rows(20, &mut row).unwrap();
    let wrong = store.read_rows(21, &mut row).unwrap_err();
    for error in [wrong, Statistics::of(&*store).unwrap_err(), store.verify().unwrap_err()] {
        assert!(
            matches!(&error, Error::Checksum { path, item, .. } if *path == shard && item == "row 5"),
            "{error}"
        );
    }
    let loader = Loader::new(store, LoaderConfig { batch_size: 4, ..LoaderConfig::default() });
    assert!(matches!(loader, Err(Error::Checksum { .. })));
}

#[test]
fn a_flipped_bit_beside_the_rows_is_found_at_opening() {
    let dir = tempfile::tempdir().unwrap();
    write_store(dir.path(), 40, spec(4, 16, Dtype::F16));
    let shard = dir.path().join("shard-00001.safetensors");
    let length = std::fs::metadata(&shard).unwrap().len();
    flip_bit(&shard, length - 1);
    let error = open_store(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Checksum { path, item, .. }
            if *path == shard && item == "checksums and metadata of the rows"),
        "{error}"
    );
    flip_bit(&shard, 40);
    assert!(matches!(open_store(dir.path()), Err(Error::Format { path, .. }) if path == shard));
}

/// Rows of another store of the same shape have checksums of their own, so only the manifest
/// tells that they do not belong.
#[test]
fn a_shard_of_another_store_is_found_at_opening() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("store"), dir.path().join("other"));
    write_store(&path, 40, spec(4, 16, Dtype::F32));
    let mut writer = StoreWriter::create(&other, spec(4, 16, Dtype::F32)).unwrap();
    writer.append(&rows(100..140, 4), &meta(0..40)).unwrap();
    writer.finish().unwrap();
    let shard = path.join("shard-00001.safetensors");
    std::fs::copy(other.join("shard-00001.safetensors"), &shard).unwrap();
    let error = open_store(&path).unwrap_err();
    assert!(matches!(&error, Error::Checksum { path, .. } if *path == shard), "{error}");

    // A manifest from before this was recorded: the store opens, and `verify` finds it.
    let manifest = path.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let lines = text.lines().filter(|line| !line.contains("columns_blake3"));
    let old = lines.collect::<Vec<_>>().join("\n").replace("\",\n    }", "\"\n    }");
    std::fs::write(&manifest, old).unwrap();
    let error = open_store(&path).unwrap().verify().unwrap_err();
    assert!(
        matches!(&error, Error::Checksum { path, item, .. } if *path == shard && item == "file"),
        "{error}"
    );
}

#[test]
fn a_file_written_over_while_open_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    write_npy(&path, Dtype::F32, 0..40, 4);
    let store = open_store(&path).unwrap();
    let mut row = [0.0; 4];
    store.read_rows(0, &mut row).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    flip_bit(&path, 200);
    assert!(
        matches!(store.read_rows(0, &mut row), Err(Error::Changed { path: p, .. }) if p == path)
    );
}

/// Renaming another file into its place leaves the open one whole.
#[test]
fn a_replaced_file_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    write_npy(&path, Dtype::F32, 0..40, 4);
    let store = open_store(&path).unwrap();
    write_npy(&path, Dtype::F32, 40..80, 4);
    assert_eq!(read_all(&*store), rows(0..40, 4));
    assert_eq!(read_all(&*open_store(&path).unwrap()), rows(40..80, 4));
}

#[test]
fn a_value_that_is_not_finite_is_named_by_file_and_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big_1000010_2.npy");
    let mut values = vec![0.5_f32; 2 * 1_000_010];
    values[2 * 1_000_003 + 1] = f32::NAN;
    std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&values)).unwrap();
    let store = open_store(&path).unwrap();
    let config = LoaderConfig { batch_size: 4096, ..LoaderConfig::default() };
    let mut errors = vec![Statistics::of(&*store).unwrap_err(), store.verify().unwrap_err()];
    errors.push(Loader::new(store, config).unwrap_err());
    for error in errors {
        let expected = "row 1000003, column 1: expected a finite value, got NaN";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(matches!(error, Error::NonFinite { path: p, .. } if p == path));
    }
}

#[test]
fn a_writer_refuses_a_value_that_is_not_finite() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::create(dir.path(), spec(2, 16, Dtype::BF16)).unwrap();
    writer.append(&rows(0..20, 2), &meta(0..20)).unwrap();
    let error = writer.append(&[1.0, 2.0, 3.0, f32::NAN], &meta(0..2)).unwrap_err();
    assert!(matches!(error, Error::NonFinite { row: 5, column: 1, .. }), "{error}");
    drop(writer);
    assert!(matches!(open_store(dir.path()), Err(Error::Incomplete { n_rows: 16, .. })));
}

#[test]
fn a_directory_in_place_of_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_store(dir.path(), 20, spec(4, 16, Dtype::F16));
    let shard = dir.path().join("shard-00001.safetensors");
    std::fs::remove_file(&shard).unwrap();
    std::fs::create_dir(&shard).unwrap();
    let error = open_store(dir.path()).unwrap_err().to_string();
    assert!(error.contains("shard-00001.safetensors: expected a file, got a directory"), "{error}");
    let pipe = dir.path().join("pipe.npy");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = open_store(&pipe).unwrap_err().to_string();
    assert!(error.ends_with("expected a file, got a special file"), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    assert!(StoreWriter::create(&file, spec(4, 16, Dtype::F16)).is_err());
}

#[test]
fn names_may_hold_spaces_and_any_letters() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("активации 数据 ü/my store");
    let store = store(&path, 20, 4, 8);
    assert_eq!(read_all(&*store), rows(0..20, 4));
    Statistics::cached(&*store).unwrap();
    let npy = path.join("größe 20_4.npy");
    write_npy(&npy, Dtype::F16, 0..20, 4);
    assert_eq!(read_all(&*open_store(&npy).unwrap()), rows(0..20, 4));
}

#[test]
fn a_damaged_manifest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_store(dir.path(), 40, spec(4, 16, Dtype::F16));
    let path = dir.path().join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("softsae-activations", "other", "format 'softsae-activations'"),
        ("\"version\": 1", "\"version\": 2", "version 1"),
        ("shard-00001", "../x/shard-00001", "shard 1 named shard-00001.safetensors"),
        ("\"n_rows\": 8", "\"n_rows\": 17", "16 rows in shard-00002.safetensors"),
        ("\"d_model\": 4", "\"d_model\": 5", "expected 1440 bytes, got 1408"),
        ("\"d_model\": 4", "\"d_model\": 0", "at least 1"),
        ("\"f16\"", "\"f64\"", "dtype int8, f16, bf16 or f32"),
        ("\"complete\": true", "\"complete\": true, \"more\": 1", "unknown field"),
        ("}", "", "a manifest of a native store"),
    ] {
        let damaged = text.replace(from, to);
        assert_ne!(damaged, text, "{from}");
        std::fs::write(&path, damaged).unwrap();
        let error = open_store(dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn requests_outside_the_store_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 20, 4, 8);
    assert!(matches!(store.read_rows(0, &mut [0.0; 5]), Err(Error::Value { .. })));
    for start in [19, 20, u64::MAX] {
        let outside = |error| matches!(error, Err(Error::OutOfRange { n_rows: 20, .. }));
        assert!(outside(store.read_rows(start, &mut [0.0; 8])));
        assert!(outside(store.read_meta(start, &mut [RowMeta::default(); 2])));
    }
}

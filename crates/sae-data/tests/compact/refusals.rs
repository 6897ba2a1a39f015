//! What compact stores do not hold, and manifests that cannot be.

use sae_data::{Compression, Dtype, StoreWriter, open_store};

use super::with;
use crate::support::{meta, read_all, rows, spec, write_store};

#[test]
fn int8_refuses_what_it_cannot_hold_by_row_and_column() {
    for (bad, expected) in [
        (f32::NAN, "row 1, column 2: expected a finite value, got NaN"),
        (f32::INFINITY, "row 1, column 2: expected a finite value, got inf"),
        (f32::MAX, "row 1, column 2: expected a value that int8 can hold"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = StoreWriter::create(dir.path(), spec(3, 8, Dtype::Int8)).unwrap();
        let error = writer.append(&[1.0, 1.0, 1.0, 0.5, 0.5, bad], &meta(0..2)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::create(dir.path(), spec(2, 8, Dtype::Int8)).unwrap();
    let error = writer.append(&[0.0, 0.0, 0.0, 1e-37], &meta(0..2)).unwrap_err();
    let expected = "row 1, column 1: expected a row of zeros or up to 1.4928";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn manifests_of_other_versions_and_impossible_frames_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let compression = Some(Compression::zstd(3).unwrap());
    write_store(dir.path(), 40, with(compression, spec(4, 16, Dtype::Int8)));
    let path = dir.path().join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"version\": 2", "\"version\": 1", "expected version 2, got version 1"),
        ("zstd:3", "zstd:40", "expected zstd or zstd:LEVEL, from 1 to 22, got zstd:40"),
        ("zstd:3", "lz4", "expected zstd or zstd:LEVEL, from 1 to 22, got lz4"),
        ("\"rows\": 8192", "\"rows\": 0", "expected frames of 1 row or more"),
        ("\"rows\": 8192", "\"rows\": 99999999", "at most 16777216 bytes"),
        ("\"rows\": 8192", "\"rows\": 18446744073709551615", "at most 16777216 bytes"),
        ("\"rows\": 8192", "\"rows\": 8", "shard-00000.safetensors: expected"),
        ("\"rows\": 8192", "\"rows\": 8192, \"more\": 1", "unknown field `more`"),
        ("\"int8\"", "\"f32\"", "shard-00000.safetensors: expected"),
    ] {
        let damaged = text.replace(from, to);
        assert_ne!(damaged, text, "{from}");
        std::fs::write(&path, damaged).unwrap();
        let error = open_store(dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{from} to {to}: {error}");
    }
    // A store that earlier versions can read keeps the version that they know.
    let plain = tempfile::tempdir().unwrap();
    write_store(plain.path(), 40, spec(4, 16, Dtype::F32));
    let text = std::fs::read_to_string(plain.path().join("manifest.json")).unwrap();
    assert!(text.contains("\"version\": 1") && !text.contains("frames"), "{text}");
    assert_eq!(read_all(&*open_store(plain.path()).unwrap()), rows(0..40, 4));
}

#[test]
fn levels_out_of_range_and_rows_too_long_for_a_frame_are_refused() {
    for level in [-1, 0, 23] {
        let error = Compression::zstd(level).unwrap_err().to_string();
        assert_eq!(error, format!("level of zstd: expected 1 to 22, got {level}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let compression = Some(Compression::zstd(3).unwrap());
    let long = with(compression, spec((4 << 20) + 1, 1, Dtype::F32));
    let error = StoreWriter::create(dir.path(), long).unwrap_err().to_string();
    assert!(error.starts_with("d_model: expected rows of at most 16777216 bytes"), "{error}");
}

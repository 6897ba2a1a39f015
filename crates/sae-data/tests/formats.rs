//! Files of numpy, safetensors and saev, written by `testdata/make.py`: read right or refused by name.

mod headers;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sae_data::{
    ActivationStore as _, Concatenation, Dtype, Inspection, Provenance, RowMeta, Selection,
    Statistics, open_store,
};

use crate::support::read_all;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// x[i, j] = (4 i + j)/8.
fn expected() -> Vec<f32> {
    (0..20_u8).map(|i| f32::from(i) / 8.0).collect()
}

fn refusal(path: &Path) -> String {
    open_store(path).unwrap_err().to_string()
}

#[test]
fn files_of_numpy_and_safetensors_are_read() {
    for (name, dtype) in [
        ("version_1.npy", Dtype::F32),
        ("version_2.npy", Dtype::F32),
        ("version_3.npy", Dtype::F32),
        ("f2.npy", Dtype::F16),
        ("f8.npy", Dtype::F64),
        ("f2.safetensors", Dtype::F16),
        ("bf16.safetensors", Dtype::BF16),
        ("f4.safetensors", Dtype::F32),
        ("f8.safetensors", Dtype::F64),
        ("metadata.safetensors", Dtype::F32),
    ] {
        let store = open_store(&testdata(name)).unwrap();
        assert_eq!((store.n_rows(), store.d_model(), store.dtype()), (5, 4, dtype), "{name}");
        assert_eq!(read_all(&*store), expected(), "{name}");
        let mut row = [0.0; 4];
        store.read_rows(3, &mut row).unwrap();
        assert_eq!(row[..], expected()[12..16], "{name}");
        store.verify().unwrap();
    }
}

#[test]
fn what_is_not_read_is_named() {
    for (name, words) in [
        ("big_endian.npy", "descr '<f2', '<f4' or '<f8', as of x.astype('<f4'), got '>f4'"),
        ("fortran.npy", "fortran_order False, as of numpy.ascontiguousarray(x), got 'True'"),
        ("int.npy", "got '<i4'"),
        ("bool.npy", "got '|b1'"),
        ("complex.npy", "got '<c8'"),
        ("structured.npy", "got a structured type '[(\\'a\\', \\'<f4\\')"),
        ("object.npy", "got '|O'"),
        ("one_dimension.npy", "as of x.reshape(-1, d_model), got 1 dimensions: [20]"),
        ("three_dimensions.npy", "as of x.reshape(-1, d_model), got 3 dimensions: [5, 2, 2]"),
        ("no_rows.npy", "at least one row"),
        ("archive.npz", "python3 -c \"import numpy; numpy.save("),
        ("two.safetensors", "one tensor, as of safetensors.numpy.save_file"),
        ("two.safetensors", "got 2: a, b"),
        ("int.safetensors", "tensor x: dtype F16, BF16, F32 or F64, got I32"),
        ("three_dimensions.safetensors", "tensor x: shape [rows, d_model], as of x.reshape"),
    ] {
        let message = refusal(&testdata(name));
        assert!(message.contains(name) && message.contains(words), "{message}");
    }
}

#[test]
fn f64_beyond_f32_is_refused_by_row() {
    let large = testdata("too_large.npy");
    let expected = "row 1, column 1: expected a value that f32 can hold, got -1e39";
    let store = open_store(&large).unwrap();
    let joined = Concatenation::new(vec![(Arc::clone(&store), 3.0)]).unwrap();
    let selected = Selection::by_index(Arc::clone(&store), [0, 1, 0]).unwrap();
    for message in [
        store.read_rows(0, &mut [0.0; 4]).unwrap_err().to_string(),
        joined.read_rows(2, &mut [0.0; 4]).unwrap_err().to_string(),
        selected.read_rows(0, &mut [0.0; 6]).unwrap_err().to_string(),
        store.verify().unwrap_err().to_string(),
        Statistics::of(&*store).unwrap_err().to_string(),
    ] {
        assert!(message.ends_with(expected) && message.contains("too_large.npy"), "{message}");
    }
    assert_eq!(Inspection::of(&*store).unwrap().n_non_finite_rows, 1);

    let small = open_store(&testdata("too_small.npy")).unwrap();
    let message = small.read_rows(0, &mut [0.0; 4]).unwrap_err().to_string();
    let expected = "row 1, column 1: expected a row that f32 does not round to zeros, got 1e-60";
    assert!(message.ends_with(expected), "{message}");
    // In a row with larger values a small one is rounded to zero, as everywhere.
    let mut first = [1.0; 2];
    small.read_rows(0, &mut first).unwrap();
    assert_eq!(first, [1.0, 0.0]);
}

#[test]
fn shards_of_saev_are_read_without_what_follows_the_last_example() {
    let path = testdata("saev");
    let store = open_store(&path).unwrap();
    assert_eq!((store.n_rows(), store.d_model(), store.dtype()), (15, 4, Dtype::F32));
    assert_eq!(read_all(&*store), (0..60_u8).map(f32::from).collect::<Vec<_>>());
    let mut meta = [RowMeta::default(); 14];
    store.read_meta(1, &mut meta).unwrap();
    let places: Vec<(u32, u32)> = meta.iter().map(|m| (m.document, m.position)).collect();
    assert_eq!(places, (1..15).map(|i| (i / 3, i % 3)).collect::<Vec<_>>());
    let host = "hf-hub:someone/vit".to_owned();
    let hook_point = "resid_post.7".to_owned();
    let provenance = Provenance { host, hook_point, ..Provenance::default() };
    assert_eq!(store.provenance(), Some(&provenance));
    assert_eq!(store.locate(13), (path.join("acts000002.bin"), 1));
    store.verify().unwrap();
}

/// Copies the shards of saev, with other text in one of the two files beside them.
fn saev_with(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(testdata("saev")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let path = dir.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    dir
}

#[test]
fn shards_of_saev_that_differ_are_refused_by_name() {
    for (file, from, to, words) in [
        ("metadata.json", "    7\n", "7, 9", "layers: one (take layer number I of a shard"),
        ("metadata.json", "    7\n", "7, 9", ".reshape(-1, 2, 3, 4)"),
        ("metadata.json", "\"2.1\"", "\"3.0\"", "protocol 1.0.0, 1.1, 2.0, 2.1, got 3.0"),
        ("metadata.json", "float32", "float16", "dtype float32, got float16"),
        ("metadata.json", "true", "false", "with 4 examples, got acts000000.bin with 2"),
        (
            "metadata.json",
            "\"n_examples\": 5",
            "\"n_examples\": 6",
            "with 2 examples, got acts000002.bin with 1",
        ),
        (
            "metadata.json",
            "\"n_examples\": 5",
            "\"n_examples\": 4",
            "with 0 examples, got acts000002.bin with 1",
        ),
        ("metadata.json", "\"n_examples\": 5", "\"n_examples\": 0", "n_examples from 1"),
        ("metadata.json", "shard\": 8", "shard\": 2", "max_tokens_per_shard of at least 3, got 2"),
        ("metadata.json", "example\": 2", "example\": 18446744073709551615", "tokens an example"),
        ("metadata.json", "\"data\"", "\"scale\": 2, \"data\"", "unknown field `scale`"),
        ("metadata.json", "\"cls_token\": true,", "", "missing field `cls_token`"),
        ("metadata.json", "\"d_model\"", "\"d_vit\": 4, \"d_model\"", "duplicate field"),
        (
            "shards.json",
            "acts000001",
            "acts000002",
            "acts000001.bin with 2 examples, got acts000002.bin",
        ),
        (
            "shards.json",
            "\"n_examples\": 2",
            "\"n_examples\": 1",
            "with 2 examples, got acts000000.bin with 1",
        ),
        ("shards.json", "\"name\"", "\"more\": 1, \"name\"", "unknown field `more`"),
    ] {
        let dir = saev_with(file, from, to);
        let message = refusal(dir.path());
        assert!(message.contains(words), "{message}");
    }
    let cut = saev_with(
        "shards.json",
        "},\n  {\n    \"name\": \"acts000002.bin\",\n    \"n_examples\": 1\n",
        "",
    );
    let message = refusal(cut.path());
    assert!(message.contains("all 5 examples of metadata.json, got 4"), "{message}");
    let more = saev_with("shards.json", "[", "[");
    std::fs::copy(testdata("saev/acts000000.bin"), more.path().join("acts000003.bin")).unwrap();
    assert!(refusal(more.path()).contains("acts000003.bin: expected a shard of shards.json"));
}

#[test]
fn older_names_of_saevs_keys_are_known() {
    for names in [
        ["vit_family", "vit_ckpt", "n_patches_per_img", "d_vit", "n_imgs", "max_patches_per_shard"],
        ["family", "ckpt", "patches_per_ex", "d_model", "n_ex", "patches_per_shard"],
    ] {
        let dir = saev_with("metadata.json", "2.1", "1.0.0");
        let newest = [
            "family",
            "ckpt",
            "content_tokens_per_example",
            "d_model",
            "n_examples",
            "max_tokens_per_shard",
        ];
        for file in ["metadata.json", "shards.json"] {
            let path = dir.path().join(file);
            let mut text = std::fs::read_to_string(&path).unwrap();
            for (new, old) in newest.iter().zip(names) {
                text = text.replace(&format!("\"{new}\""), &format!("\"{old}\""));
            }
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(read_all(&*open_store(dir.path()).unwrap()).len(), 60);
    }
}

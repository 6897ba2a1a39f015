//! A real shard of int8 in zstd frames with any bytes in any place, under a manifest with any numbers
//! and without the hash of what follows the rows: it reads whole or is refused.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sae_data::{Compression, Dtype, RowMeta, StoreSpec, StoreWriter, open_store};
use serde_json::Value;

/// A store of 20 rows of dimension 4, the bytes of its one shard, and its manifest.
fn store() -> &'static (PathBuf, Vec<u8>, Value) {
    static STORE: OnceLock<(PathBuf, Vec<u8>, Value)> = OnceLock::new();
    STORE.get_or_init(|| {
        let name = format!("sae-data-fuzz-compact-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let compression: Compression = "zstd".parse().unwrap();
        let spec = StoreSpec { compression: Some(compression), ..StoreSpec::new(4, Dtype::Int8) };
        let mut writer = StoreWriter::create(&dir, spec).unwrap();
        let rows: Vec<f32> = (0..80).map(|i| (i as f32).sin()).collect();
        writer.append(&rows, &[RowMeta::default(); 20]).unwrap();
        writer.finish().unwrap();
        let shard = std::fs::read(dir.join("shard-00000.safetensors")).unwrap();
        let manifest = std::fs::read(dir.join("manifest.json")).unwrap();
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        // As stores have it that were written before it was recorded.
        manifest["shards"][0]["columns_blake3"] = "".into();
        (dir, shard, manifest)
    })
}

fuzz_target!(|input: (u16, &[u8], u16, u8, u64, u16)| {
    let (at, bytes, cut, n_rows, frame_rows, n_bytes) = input;
    let (dir, shard, manifest) = store();
    let mut shard = shard.clone();
    let at = usize::from(at) % shard.len();
    let n = bytes.len().min(shard.len() - at);
    shard[at..at + n].copy_from_slice(&bytes[..n]);
    shard.truncate(shard.len() - usize::from(cut) % shard.len());
    std::fs::write(dir.join("shard-00000.safetensors"), &shard).unwrap();
    // XOR makes zero, which a fuzzer begins with, the true number.
    let mut manifest = manifest.clone();
    let changed = |value: &mut Value, by: u64| *value = (value.as_u64().unwrap() ^ by).into();
    changed(&mut manifest["shards"][0]["n_rows"], n_rows.into());
    changed(&mut manifest["shards"][0]["n_bytes"], n_bytes.into());
    changed(&mut manifest["frames"]["rows"], frame_rows);
    std::fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    if let Ok(store) = open_store(dir) {
        assert!(store.n_rows() <= 512 && store.d_model() == 4);
        let _ = store.verify();
        let mut values = vec![0.0; 4 * store.n_rows() as usize];
        let _ = store.read_rows(0, &mut values);
    }
});

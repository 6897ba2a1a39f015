//! A real shard with any start, under a manifest with any numbers: it reads whole or is refused.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sae_data::{Dtype, RowMeta, StoreSpec, StoreWriter, open_store};

/// A store of 20 rows of dimension 4, and the bytes of its one shard.
fn store() -> &'static (PathBuf, Vec<u8>) {
    static STORE: OnceLock<(PathBuf, Vec<u8>)> = OnceLock::new();
    STORE.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("sae-data-fuzz-{}", std::process::id()));
        let mut writer = StoreWriter::create(&dir, StoreSpec::new(4, Dtype::F16)).unwrap();
        writer.append(&[1.0; 80], &[RowMeta::default(); 20]).unwrap();
        writer.finish().unwrap();
        let shard = std::fs::read(dir.join("shard-00000.safetensors")).unwrap();
        (dir, shard)
    })
}

fuzz_target!(|input: (usize, u64, u64, u64, bool, u16, &[u8])| {
    let (d_model, n_rows, rows_per_shard, n_bytes, half, cut, start) = input;
    let (dir, shard) = store();
    let mut shard = shard.clone();
    let n = start.len().min(shard.len());
    shard[..n].copy_from_slice(&start[..n]);
    shard.truncate(shard.len() - usize::from(cut) % 8);
    std::fs::write(dir.join("shard-00000.safetensors"), shard).unwrap();
    let dtype = if half { "f16" } else { "f32" };
    // XOR makes zeros, which a fuzzer begins with, the true numbers.
    let (d_model, n_rows) = (d_model ^ 4, n_rows ^ 20);
    let (rows_per_shard, n_bytes) = (rows_per_shard ^ 20, n_bytes ^ 1504);
    let manifest = format!(
        r#"{{"format": "softsae-activations", "version": 1, "d_model": {d_model},
            "dtype": "{dtype}", "rows_per_shard": {rows_per_shard}, "complete": true,
            "provenance": {{}}, "shards": [{{"file": "shard-00000.safetensors",
            "n_rows": {n_rows}, "n_bytes": {n_bytes}, "blake3": ""}}]}}"#
    );
    std::fs::write(dir.join("manifest.json"), manifest).unwrap();
    if let Ok(store) = open_store(dir) {
        assert!(store.n_rows() <= 512 && store.d_model() <= 512);
        let _ = store.verify();
    }
});

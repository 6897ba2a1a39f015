//! Shards of saev under any metadata: they read whole or are refused.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sae_data::open_store;

/// A folder with one shard of 96 bytes.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("sae-data-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("acts000000.bin"), [0; 96]).unwrap();
        dir
    })
}

fuzz_target!(|input: (bool, bool, u64, usize, u64, u64, &str, &str)| {
    let (raw, cls_token, patches, d_model, n_examples, per_shard, metadata, shards) = input;
    // XOR makes zeros, which a fuzzer begins with, the true numbers: 2 examples of 3 tokens of 4.
    let (patches, d_model) = (patches ^ 2, d_model ^ 4);
    let (n_examples, per_shard) = (n_examples ^ 2, per_shard ^ 6);
    let numbers = format!(
        r#"{{"family": "", "ckpt": "", "layers": [1], "n_patches_per_img": {patches},
            "cls_token": {}, "d_vit": {d_model}, "n_imgs": {n_examples}, "data": {{}},
            "max_patches_per_shard": {per_shard}, "dtype": "float32", "protocol": "1.0.0"}}"#,
        !cls_token
    );
    let shard = format!(r#"[{{"name": "acts000000.bin", "n_imgs": {n_examples}}}]"#);
    let dir = folder();
    std::fs::write(dir.join("metadata.json"), if raw { metadata } else { &numbers }).unwrap();
    std::fs::write(dir.join("shards.json"), if raw { shards } else { &shard }).unwrap();
    if let Ok(store) = open_store(dir) {
        assert!(store.n_rows() as u128 * store.d_model() as u128 <= 24);
        let _ = store.verify();
        let mut meta = vec![Default::default(); store.n_rows() as usize];
        store.read_meta(0, &mut meta).unwrap();
    }
});

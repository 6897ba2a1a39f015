//! A file with any bytes and sizes in its name, or as safetensors: it reads whole or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sae_data::open_store;

fuzz_target!(|input: (bool, u64, u64, &[u8])| {
    let (safetensors, n_rows, d_model, bytes) = input;
    let dir = std::env::temp_dir().join(format!("sae-data-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let name = format!("x_{n_rows}_{d_model}.npy");
    let path = dir.join(if safetensors { "x.safetensors" } else { &name });
    std::fs::write(&path, bytes).unwrap();
    if let Ok(store) = open_store(&path) {
        assert!(store.n_rows() as u128 * store.d_model() as u128 <= bytes.len() as u128);
        let _ = store.verify();
    }
    std::fs::remove_file(&path).unwrap();
});

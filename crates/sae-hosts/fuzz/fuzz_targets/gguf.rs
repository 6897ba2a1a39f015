//! Any bytes are either a GGUF file whose tensors all read whole, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sae_hosts::GgufFile;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("sae-hosts-fuzz-{}.gguf", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    if let Ok(file) = GgufFile::open(&path) {
        for name in file.tensor_names() {
            let weights = file.read_f32(name).expect("an open file reads whole");
            let n_weights: u64 = file.shape(name).expect("a named tensor").iter().product();
            assert_eq!(weights.len() as u64, n_weights);
        }
    }
    std::fs::remove_file(&path).unwrap();
});

//! Any bytes are either a GGUF file whose tensors all read whole, and a host that computes if it
//! loads and tokenises if it has a tokenizer, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sae_hosts::{GgufFile, HostModel};
use tch::{Device, Tensor};

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("sae-hosts-fuzz-{}.gguf", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    if let Ok(file) = GgufFile::open(&path) {
        for name in file.tensor_names() {
            let weights = file.read_f32(name).expect("an open file reads whole");
            let n_weights: u64 = file.shape(name).expect("a named tensor").iter().product();
            assert_eq!(weights.len() as u64, n_weights);
        }
        if let Ok(host) = HostModel::load(&path, Device::Cpu) {
            let tokenizer = host.tokenizer().expect("a GGUF file has a tokenizer");
            let ids = tokenizer.encode("a text  \n12").expect("any text has tokens");
            tokenizer.decode(&ids).expect("tokens have a text");
            assert!(host.logits(&Tensor::from_slice(&[0_i64]).view([1, 1])).is_ok());
        }
    }
    std::fs::remove_file(&path).unwrap();
});

//! Any bytes are either settings of a processor of images, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sae_hosts::ImageProcessor;

fuzz_target!(|bytes: &[u8]| {
    let name = format!("sae-hosts-fuzz-settings-{}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    let _ = ImageProcessor::read(&path);
    std::fs::remove_file(&path).unwrap();
});

//! Any text is either a manifest that survives writing and reading, or an error.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sae_data::Manifest;

fuzz_target!(|text: &str| {
    let path = Path::new("manifest.json");
    if let Ok(manifest) = Manifest::parse(text, path) {
        let again = serde_json::to_string(&manifest).expect("a manifest can be written");
        assert_eq!(Manifest::parse(&again, path).expect("what was written can be read"), manifest);
    }
});

//! Any bytes, as an archive or as the pickle in one, are a model of the published SoftSAE or an error.
#![no_main]

use std::io::{Cursor, Write as _};

use libfuzzer_sys::fuzz_target;
use sae_models::{Format, import};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fuzz_target!(|bytes: &[u8]| {
    let dir = std::env::temp_dir().join(format!("sae-models-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for archive in [bytes.to_vec(), archive(bytes)] {
        std::fs::write(dir.join("ae.pt"), archive).unwrap();
        if let Ok(read) = import(&dir, Format::SoftSae) {
            assert_eq!(read.sae.config().code.name(), "soft");
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
});

/// An archive with this pickle and a storage.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("ae/data.pkl", pickle), ("ae/data/0", &[0x3f; 256])] {
        archive.start_file(name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

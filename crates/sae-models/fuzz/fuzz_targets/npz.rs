//! Any bytes, as an archive or as the arrays in one, are a model of Gemma Scope or an error.
#![no_main]

use std::io::{Cursor, Write as _};

use libfuzzer_sys::fuzz_target;
use sae_models::{Format, import};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fuzz_target!(|bytes: &[u8]| {
    let dir = std::env::temp_dir().join(format!("sae-models-npz-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for archive in [bytes.to_vec(), archive(bytes)] {
        std::fs::write(dir.join("params.npz"), archive).unwrap();
        if let Ok(read) = import(&dir, Format::GemmaScope) {
            assert_eq!(read.sae.config().code.name(), "jumprelu");
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
});

/// An archive of good arrays for D = 1 and F = 2, of which these bytes replace one.
fn archive(bytes: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let arrays = [
        ("W_enc", "(1, 2)"),
        ("W_dec", "(2, 1)"),
        ("b_enc", "(2,)"),
        ("b_dec", "(1,)"),
        ("threshold", "(2,)"),
    ];
    let replaced = usize::from(bytes.first().copied().unwrap_or(0)) % arrays.len();
    for (i, (name, shape)) in arrays.into_iter().enumerate() {
        archive.start_file(format!("{name}.npy"), options).unwrap();
        if i == replaced {
            archive.write_all(bytes.get(1..).unwrap_or_default()).unwrap();
            continue;
        }
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
        archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(header.as_bytes()).unwrap();
        archive.write_all(&[0x3f; 8][..if name == "b_dec" { 4 } else { 8 }]).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

//! Any bytes are either the header of a `.npy` file or a mismatch, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sae_data::FlatHeader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = FlatHeader::parse_npy(bytes) {
        assert!(header.data_offset <= bytes.len() as u64);
    }
});

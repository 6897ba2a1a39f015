//! Any bytes are either the header of a safetensors file of one matrix or a mismatch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sae_data::FlatHeader;

fuzz_target!(|input: (bool, &[u8])| {
    let (framed, text) = input;
    // Most random lengths lead nowhere, so that half the inputs get a true one.
    let length = (text.len() as u64).to_le_bytes();
    let bytes = if framed { [&length, text].concat() } else { text.to_vec() };
    let len = bytes.len() as u64;
    if let Ok(header) = FlatHeader::parse_safetensors(&bytes, len) {
        assert!(header.data_offset <= len);
        assert!(header.n_rows.checked_mul(header.d_model).is_some());
    }
});

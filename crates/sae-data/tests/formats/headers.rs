//! Headers of safetensors and NumPy files, of which nothing is passed over.

use proptest::prelude::*;
use sae_data::{FlatHeader, open_store};

use super::expected;
use crate::support::read_all;

/// A safetensors file of one 5×4 f32 tensor with this header.
fn with_header(header: &str) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(expected().iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

const TENSOR: &str = r#"{"dtype":"F32","shape":[5,4],"data_offsets":[0,80]}"#;

#[test]
fn safetensors_headers_are_read_strictly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        open_store(&path).map(|store| read_all(&*store)).map_err(|e| e.to_string())
    };
    // The data may begin at any byte.
    for padding in 0..4 {
        let header = format!("{{\"x\":{TENSOR}}}{}", " ".repeat(padding));
        assert_eq!(open(&with_header(&header)).unwrap(), expected());
    }
    for (header, words) in [
        (format!("{{\"x\":{TENSOR},\"x\":{TENSOR}}}"), "x twice"),
        (
            TENSOR.replace("80]", "80],\"scale\":[2]").replacen('{', "{\"x\":{", 1) + "}",
            "unknown field `scale`",
        ),
        (format!("{{\"x\":{}}}", TENSOR.replace("0,80", "4,84")), "data_offsets 0 to the size"),
        (format!("{{\"x\":{}}}", TENSOR.replace("0,80", "0,40")), "data_offsets 0 to the size"),
        (format!("{{\"x\":{}}}", TENSOR.replace("5,4", "5,5")), "data_offsets 0 to the size"),
        (format!("{{\"x\":{}}}", TENSOR.replace("5,4", "4611686018427387904,4")), "data_offsets"),
        (format!("{{\"x\":{}}}", TENSOR.replace("F32", "F8_E4M3")), "got F8_E4M3"),
        (format!("{{\"x\":{}}}", TENSOR.replace("F32", "f32")), "got f32"),
        (format!("{{\"x\":{}}}", TENSOR.replace("5,4", "5,-4")), "tensor x"),
        (format!("{{\"x\":{TENSOR},\"__metadata__\":{{\"scale\":2}}}}"), "a safetensors header"),
        ("{}".to_owned(), "one tensor"),
        (format!("{{\"x\":{TENSOR}}}}}"), "a safetensors header"),
        ("[1]".to_owned(), "a map of tensors"),
    ] {
        let message = open(&with_header(&header)).unwrap_err();
        assert!(
            message.contains("x.safetensors") && message.contains(words),
            "{header}: {message}"
        );
    }
    let whole = with_header(&format!("{{\"x\":{TENSOR}}}"));
    for (bytes, words) in [
        (whole[..whole.len() - 1].to_vec(), "bytes, got"),
        ([&whole[..], &[0]].concat(), "bytes, got"),
        (whole[..7].to_vec(), "the end of the file"),
        (
            [&u64::MAX.to_le_bytes(), &whole[8..]].concat(),
            "a safetensors header that ends in the file",
        ),
        ([&100_000_u64.to_le_bytes()[..], &[b' '; 100_000]].concat(), "at most 64 KiB"),
    ] {
        let message = open(&bytes).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
}

proptest! {
    #[test]
    fn any_other_tensor_beside_is_refused_by_name(name in "[a-z_.]{1,12}", size in 0..3_u64) {
        prop_assume!(name != "x");
        let end = 80 + 4 * size;
        let other = format!(r#""{name}":{{"dtype":"F32","shape":[{size}],"data_offsets":[80,{end}]}}"#);
        for header in [format!("{{\"x\":{TENSOR},{other}}}"), format!("{{{other},\"x\":{TENSOR}}}")] {
            let mut bytes = with_header(&header);
            bytes.resize(bytes.len() + 4 * size as usize, 0);
            let got = FlatHeader::parse_safetensors(&bytes, bytes.len() as u64).unwrap_err().got;
            prop_assert!(got.contains(&name), "{}", got);
        }
    }

    #[test]
    fn parsers_of_headers_never_panic(tail: Vec<u8>, text in "[{}\\[\\]:,\"a-z_F0-9]{0,80}") {
        let _ = FlatHeader::parse_safetensors(&tail, tail.len() as u64);
        let bytes = with_header(&text);
        let _ = FlatHeader::parse_safetensors(&bytes, bytes.len() as u64);
    }
}

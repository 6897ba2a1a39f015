//! The GGUF reader on well-formed, truncated and corrupt files.

use std::collections::HashMap;
use std::io::Write;

use proptest::prelude::*;
use sae_hosts::{GgufFile, GgufValue};
use tch::Tensor;
use tempfile::NamedTempFile;

use crate::gguf_builder::GgufBuilder;

/// A small valid file: values of several types, two arrays, two tensors.
fn valid() -> Vec<u8> {
    let packed: Vec<u8> = (1..=2)
        .flat_map(|row| {
            let scale = half::f16::from_f32(0.5).to_le_bytes();
            scale.into_iter().chain([row; 32])
        })
        .collect();
    GgufBuilder::default()
        .string("general.architecture", "llama")
        .u32("count", 7)
        .f32("scale", 0.5)
        .strings("names", &["a", "", "bc"])
        .i32s("kinds", &[-1, 3])
        .f32_tensor("plain", &[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
        .tensor("packed", &[2, 32], 8, &packed)
        .build()
}

fn write(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(bytes: &[u8]) -> Result<GgufFile, sae_hosts::Error> {
    GgufFile::open(write(bytes).path())
}

/// What is wrong with the file, without its random path.
fn message(bytes: &[u8]) -> String {
    let file = write(bytes);
    let error = GgufFile::open(file.path()).expect_err("the file is malformed").to_string();
    let path = format!("{}: ", file.path().display());
    error.strip_prefix(&path).expect("the file is named").to_owned()
}

#[test]
fn a_valid_file_is_read_whole() {
    let file = open(&valid()).unwrap();
    assert_eq!(file.value("general.architecture").and_then(GgufValue::as_str), Some("llama"));
    assert_eq!(file.value("count").and_then(GgufValue::as_u64), Some(7));
    assert_eq!(file.value("scale").and_then(GgufValue::as_f64), Some(0.5));
    let array = |key: &str| file.value(key).and_then(GgufValue::as_array).unwrap();
    assert_eq!(array("names").strings().unwrap().collect::<Vec<_>>(), ["a", "", "bc"]);
    assert_eq!(array("kinds").integers().unwrap().collect::<Vec<_>>(), [-1, 3]);
    assert!(array("kinds").strings().is_none() && array("names").integers().is_none());
    assert_eq!(file.tensor_names().collect::<Vec<_>>(), ["packed", "plain"]);
    assert_eq!(file.shape("plain"), Some(&[3, 2][..]));
    assert_eq!(file.read_f32("plain").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let packed = file.read_f32("packed").unwrap();
    assert!(packed[..32].iter().all(|w| *w == 0.5) && packed[32..].iter().all(|w| *w == 1.0));
}

#[test]
fn each_fault_names_the_field_what_was_expected_and_what_came() {
    let good = valid();
    let patched = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        message(&bad)
    };
    let find =
        |text: &str| good.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    assert_eq!(patched(0, b"GGML"), "magic: expected GGUF, got GGML");
    assert_eq!(patched(4, &[1]), "version: expected 2 or 3, got 1");
    assert_eq!(
        patched(24, &u64::MAX.to_le_bytes()),
        format!(
            "metadata key: expected {} more bytes, got the end of the file after {}",
            u64::MAX,
            good.len() - 32
        )
    );
    assert_eq!(
        patched(find("count") + 5, &[99]),
        "count: expected a value type from 0 to 12, got 99"
    );
    assert_eq!(
        patched(find("names") + 9, &[9]),
        "names: expected an array of plain values, got nested ones"
    );
    assert_eq!(patched(find("plain") + 5, &[5]), "plain: expected at most 4 dimensions, got 5");
    assert_eq!(
        patched(find("plain") + 25, &[20]),
        "tensor `plain`: expected a type of F32 (0), F16 (1), Q4_0 (2), Q4_1 (3), Q5_0 (6), \
         Q5_1 (7), Q8_0 (8), Q2_K (10), Q3_K (11), Q4_K (12), Q5_K (13), Q6_K (14), BF16 (30), \
         got 20"
    );
    assert_eq!(
        patched(find("packed") + 30, &[33]),
        "tensor `packed`: expected an offset of a multiple of 32, got 33"
    );
    assert_eq!(
        patched(find("packed") + 10, &[33]),
        "tensor `packed`: expected rows of a multiple of 32 weights, got 33"
    );
    assert_eq!(
        patched(find("packed") + 18, &[3]),
        "tensor `packed`: expected 102 bytes at offset 32 of the data, got 68 bytes"
    );
    assert_eq!(
        patched(find("plain") + 9, &[0]),
        "tensor `plain`: expected sizes above 0, got [0, 3]"
    );
    let huge = [u64::MAX.to_le_bytes(), u64::MAX.to_le_bytes()].concat();
    assert!(
        patched(find("plain") + 9, &huge).starts_with("tensor `plain`: expected a size of less")
    );
}

#[test]
fn version_2_is_read_alike() {
    let mut old = valid();
    old[4] = 2;
    assert_eq!(open(&old).unwrap().read_f32("packed").unwrap()[0], 0.5);
}

/// Against gguf's own numpy code, to the bit.
#[test]
fn dequantised_weights_are_those_of_the_reference() {
    const TYPES: [(&str, u32, u64); 13] = [
        ("F32", 0, 32),
        ("F16", 1, 32),
        ("Q4_0", 2, 32),
        ("Q4_1", 3, 32),
        ("Q5_0", 6, 32),
        ("Q5_1", 7, 32),
        ("Q8_0", 8, 32),
        ("Q2_K", 10, 256),
        ("Q3_K", 11, 256),
        ("Q4_K", 12, 256),
        ("Q5_K", 13, 256),
        ("Q6_K", 14, 256),
        ("BF16", 30, 32),
    ];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/gguf/dequantize.safetensors");
    let tensors: HashMap<String, Tensor> =
        Tensor::read_safetensors(path).unwrap().into_iter().collect();
    assert_eq!(tensors.len(), 2 * TYPES.len());
    for (name, id, width) in TYPES {
        let bytes: Vec<u8> = (&tensors[&format!("{name}.bytes")]).try_into().unwrap();
        let expected: Vec<f32> = (&tensors[&format!("{name}.weights")]).try_into().unwrap();
        let file = GgufBuilder::default().tensor("x", &[3, width], id, &bytes).build();
        let file = write(&file);
        let weights = GgufFile::open(file.path()).unwrap().read_f32("x").unwrap();
        let bits = |weights: &[f32]| weights.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&weights), bits(&expected), "{name}");
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = GgufFile::open("no/such.gguf".as_ref()).unwrap_err().to_string();
    assert!(error.starts_with("no/such.gguf: "), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let good = valid();
    for length in 0..good.len() {
        assert!(open(&good[..length]).is_err(), "{length} bytes of {}", good.len());
    }
}

proptest! {
    /// Whatever bytes change, opening and reading either work or are errors.
    #[test]
    fn corrupt_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        extreme in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(vec![
            u64::MAX, 1 << 63, 1 << 32, u64::from(u32::MAX), 0,
        ]))),
    ) {
        let mut bytes = valid();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some((at, value)) = extreme {
            let at = at.index(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        if let Ok(file) = open(&bytes) {
            for name in file.tensor_names() {
                let expected: u64 = file.shape(name).unwrap().iter().product();
                prop_assert_eq!(file.read_f32(name).unwrap().len() as u64, expected);
            }
        }
    }
}

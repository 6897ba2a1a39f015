//! Where the golden numbers and the real model lie, and how tensors are compared.

use std::collections::HashMap;
use std::path::PathBuf;

use tch::{Kind, Tensor};

/// A folder or file of golden numbers: under `SOFTSAE_GOLDEN`, else under `testdata/golden`.
pub(crate) fn golden(name: &str) -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/golden"));
    std::env::var_os("SOFTSAE_GOLDEN").map_or_else(default, PathBuf::from).join(name)
}

/// The real SmolLM2-135M, which `cargo xtask test` fetches.
pub(crate) fn smollm2() -> PathBuf {
    let path = std::env::var_os("SOFTSAE_SMOLLM2").expect(
        "SOFTSAE_SMOLLM2 must be the path of SmolLM2-135M-Instruct.Q4_1.gguf; \
         `cargo xtask test` fetches the file and sets it",
    );
    path.into()
}

/// The real ViT-S/14 in the layout of DINOv2, which `cargo xtask test` fetches.
pub(crate) fn vit() -> PathBuf {
    let path = std::env::var_os("SOFTSAE_VIT").expect(
        "SOFTSAE_VIT must be the path of vit_s_focus.onnx; `cargo xtask test` fetches the file \
         and sets it",
    );
    path.into()
}

/// The tensors of a safetensors file.
pub(crate) fn tensors(name: &str) -> HashMap<String, Tensor> {
    let path = golden(name);
    let tensors = Tensor::read_safetensors(&path);
    tensors.unwrap_or_else(|error| panic!("{}: {error}", path.display())).into_iter().collect()
}

/// The largest difference of two tensors of the same shape.
pub(crate) fn max_difference(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.size(), expected.size());
    let difference = got.to_kind(Kind::Double) - expected.to_kind(Kind::Double);
    difference.abs().max().double_value(&[])
}

/// The largest ratio, over rows, of the norm of the difference to that of the expected row.
pub(crate) fn max_row_error(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.size(), expected.size());
    let norm = |x: Tensor| x.norm_scalaropt_dim(2.0, [-1], false);
    let expected = expected.to_kind(Kind::Double);
    let difference = got.to_kind(Kind::Double) - &expected;
    (norm(difference) / norm(expected)).max().double_value(&[])
}

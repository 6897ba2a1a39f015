//! A real ViT-S/14 in the layout of DINOv2, out of its ONNX file.

use std::path::Path;

use sae_hosts::{HostInput, HostModel};
use tch::{Device, Tensor};

use crate::support::{golden, max_difference, vit};

fn npy(name: &str) -> Tensor {
    let path = golden("dinov2-small").join(format!("{name}.npy"));
    Tensor::read_npy(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Some positions: the class token, two patches, and the last one, which are all that the files here
/// hold.
fn kept(x: &Tensor) -> Tensor {
    match x.size()[0] {
        257 => x.index_select(0, &Tensor::from_slice(&[0_i64, 1, 100, 256])),
        _ => x.shallow_clone(),
    }
}

#[test]
fn activations_are_those_of_the_program_in_the_file() {
    let host = HostModel::load(&vit(), Device::Cpu).unwrap();
    let info = host.info();
    assert_eq!((info.family.as_str(), info.n_layers, info.d_model), ("dinov2", 12, 384));
    let HostInput::Images { size, class_token, multiple_of, .. } = info.input else {
        panic!("a vision model");
    };
    assert_eq!((size, class_token, multiple_of), (518, true, Some(14)));
    let pixels = npy("input").view([1, 3, 224, 224]);
    // Of ONNX Runtime, which differs from PyTorch by up to 1.5e-6 and 3.4e-5 there.
    for (hook, name, tolerance) in
        [("resid_post.5", "block5", 1e-5), ("resid_post.11", "block11", 2e-4)]
    {
        let got = host.activations(&pixels, hook.parse().unwrap()).unwrap();
        assert_eq!(got.size(), [1, 257, 384]);
        let off = max_difference(&kept(&got.squeeze_dim(0)), &kept(&npy(name)));
        assert!(off < tolerance, "{hook}: off by {off}");
    }
    let embedding = host.image_embeddings(&pixels).unwrap();
    let off = max_difference(&embedding, &npy("final_norm").narrow(0, 0, 1));
    assert!(off < 1e-4, "embedding: off by {off}");
}

#[test]
fn a_damaged_file_and_another_model_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("a.onnx");
    let refusal = |bytes: &[u8]| {
        std::fs::write(&place, bytes).unwrap();
        HostModel::load(&place, Device::Cpu).unwrap_err().to_string()
    };
    let whole = std::fs::read(vit()).unwrap();
    let changed = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|part| part == from).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        refusal(&bytes)
    };
    let error = refusal(&whole[..whole.len() / 2]);
    assert!(error.contains("a.onnx: ONNX: expected a model that can be read in full"), "{error}");
    let error = refusal(b"");
    assert!(error.ends_with("got no graph"), "{error}");
    // Erf in place of which GELU has another function, and a weight by another name.
    let error = changed(b"\x22\x03Erf", b"\x22\x03Tan");
    let node = "/backbone/encoder/layer.0/mlp/activation/Erf";
    assert!(error.contains(&format!("node `{node}`: expected `{node} = Erf(")), "{error}");
    assert!(error.contains("got `") && error.contains("= Tan("), "{error}");
    let name = b"backbone.embeddings.cls_token";
    let error = changed(
        &[&[0x42, 29], &name[..]].concat(),
        &[&[0x42, 29], &b"backbone.embeddings.cls_toKen"[..]].concat(),
    );
    assert!(error.contains("graph: expected DINOv2 as torch exports it, got no tensor"), "{error}");
    let missing = HostModel::load(Path::new("none.onnx"), Device::Cpu).unwrap_err().to_string();
    assert!(missing.starts_with("none.onnx: "), "{missing}");
}

//! Tiny models of each family against what the transformers library computes for them.

use std::collections::HashMap;

use sae_hosts::{Error, HookKind, HookPoint, HostInput, HostModel};
use tch::Tensor;
use tch_autograd::test_device;

use crate::support::{golden, max_difference};

const TOLERANCE: f64 = 1e-4;

/// The tensors of a safetensors file, on the device under test.
fn tensors(name: &str) -> HashMap<String, Tensor> {
    let tensors = crate::support::tensors(name);
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(test_device()))).collect()
}

/// Compares every hook point and the logits; `attention` and `mlp` name a layer's modules.
fn check_language_model(family: &str, attention: &str, mlp: &str) {
    let host = HostModel::load(&golden(&format!("hosts/{family}")), test_device()).unwrap();
    let expected = tensors(&format!("hosts/{family}/expected.safetensors"));
    let ids = &expected["input_ids"];
    let n_layers = host.info().n_layers;
    assert_eq!(host.info().family, family);

    let mut compared = Vec::new();
    let mut check = |hook: String, key: String| {
        let got = host.activations(ids, hook.parse::<HookPoint>().unwrap()).unwrap();
        let difference = max_difference(&got, &expected[&key]);
        assert!(difference < TOLERANCE, "{family} {hook}: {difference}");
        compared.push(key);
    };
    for layer in 0..n_layers {
        check(format!("resid_pre.{layer}"), format!("hidden_states.{layer}"));
        check(
            format!("attn_out.{layer}"),
            format!("module.{}", attention.replace('#', &layer.to_string())),
        );
        check(
            format!("mlp_out.{layer}"),
            format!("module.{}", mlp.replace('#', &layer.to_string())),
        );
    }
    for layer in 1..n_layers {
        check(format!("resid_post.{}", layer - 1), format!("hidden_states.{layer}"));
    }
    let difference = max_difference(&host.logits(ids).unwrap(), &expected["logits"]);
    assert!(difference < TOLERANCE, "{family} logits: {difference}");
    assert_eq!(compared.len(), 4 * n_layers - 1);

    splicing_what_was_there_changes_nothing(&host, ids);
}

/// The same for a vision model, whose last hidden state is the residual stream itself.
fn check_vision_model(folder: &str, family: &str, attention: &str, mlp: &str, pooled: &str) {
    let host = HostModel::load(&golden(&format!("hosts/{folder}")), test_device()).unwrap();
    let expected = tensors(&format!("hosts/{folder}/expected.safetensors"));
    let pixels = &expected["pixel_values"];
    assert_eq!(host.info().family, family);
    for layer in 0..host.info().n_layers {
        let number = layer.to_string();
        for (hook, key) in [
            ("resid_pre", format!("hidden_states.{layer}")),
            ("resid_post", format!("hidden_states.{}", layer + 1)),
            ("attn_out", format!("module.{}", attention.replace('#', &number))),
            ("mlp_out", format!("module.{}", mlp.replace('#', &number))),
        ] {
            let hook: HookPoint = format!("{hook}.{layer}").parse().unwrap();
            let got = host.activations(pixels, hook).unwrap();
            let difference = max_difference(&got, &expected[&key]);
            assert!(difference < TOLERANCE, "{family} {hook}: {difference}");
        }
    }
    let got = host.image_embeddings(pixels).unwrap();
    let difference = max_difference(&got, &expected[pooled]);
    assert!(difference < TOLERANCE, "{family} {pooled}: {difference}");

    let error = host.logits(pixels).unwrap_err().to_string();
    assert_eq!(error, format!("host: expected a language model, got {family}"));
    let HostInput::Images { channels, size, multiple_of, .. } = host.info().input else {
        panic!("{family} reads images")
    };
    // Not the size, and not a multiple of that of a patch.
    let width = multiple_of.unwrap_or(size / 2) + 1;
    let error = host.image_embeddings(&pixels.narrow(3, 0, width as i64)).unwrap_err().to_string();
    let edge = multiple_of.map_or(size.to_string(), |part| format!("multiple of {part}"));
    let device = test_device();
    let expected = format!("Float [batch, {channels}, {edge}, {edge}] on {device:?}");
    let got = format!("Float [{}, {channels}, {size}, {width}] on {device:?}", pixels.size()[0]);
    assert_eq!(error, format!("pixels: expected {expected}, got {got}"));
}

fn splicing_what_was_there_changes_nothing(host: &HostModel, ids: &Tensor) {
    let clean = host.logits(ids).unwrap();
    for kind in HookKind::ALL {
        let n = if kind.has_layer() { host.info().n_layers } else { 1 };
        for hook in (0..n).map(|layer| HookPoint::new(kind, layer)) {
            let same = host.logits_spliced(ids, hook, &mut |x| Ok(x)).unwrap();
            assert!(max_difference(&same, &clean) < 1e-6, "{hook}");
            let zero = host.logits_spliced(ids, hook, &mut |x| Ok(x.zeros_like())).unwrap();
            assert!(max_difference(&zero, &clean) > 1e-3, "{hook} has no effect");
            let prefix = host.prefix(ids, hook).unwrap();
            let untouched = prefix.activations().copy();
            let zeros = untouched.zeros_like();
            assert_eq!(host.logits_from(&prefix, &zeros).unwrap(), zero, "{hook}");
            assert_eq!(host.logits_from(&prefix, &untouched).unwrap(), same, "{hook}");
            assert_eq!(*prefix.activations(), untouched, "{hook} was changed in place");
            assert_eq!(zeros.abs().max().double_value(&[]), 0.0, "{hook} was changed in place");
        }
    }
}

#[test]
fn llama() {
    check_language_model("llama", "model.layers.#.self_attn", "model.layers.#.mlp");
}

#[test]
fn qwen2() {
    check_language_model("qwen2", "model.layers.#.self_attn", "model.layers.#.mlp");
}

#[test]
fn qwen3() {
    check_language_model("qwen3", "model.layers.#.self_attn", "model.layers.#.mlp");
}

#[test]
fn gemma2() {
    check_language_model("gemma2", "model.layers.#.self_attn", "model.layers.#.mlp");
}

#[test]
fn gpt2() {
    check_language_model("gpt2", "transformer.h.#.attn", "transformer.h.#.mlp");
}

#[test]
fn gpt_neox() {
    check_language_model("gpt_neox", "gpt_neox.layers.#.attention", "gpt_neox.layers.#.mlp");
}

#[test]
fn vit() {
    check_vision_model("vit", "vit", "layers.#.attention", "layers.#.mlp", "pooler_output");
}

#[test]
fn dinov2() {
    let (attention, mlp) = ("encoder.layer.#.attention", "encoder.layer.#.mlp");
    check_vision_model("dinov2", "dinov2", attention, mlp, "pooler_output");
}

#[test]
fn clip_vision() {
    let attention = "vision_model.encoder.layers.#.self_attn";
    let mlp = "vision_model.encoder.layers.#.mlp";
    check_vision_model("clip_vision", "clip_vision_model", attention, mlp, "image_embeds");
}

#[test]
fn siglip_vision() {
    let (attention, mlp) = ("encoder.layers.#.self_attn", "encoder.layers.#.mlp");
    check_vision_model("siglip_vision", "siglip_vision_model", attention, mlp, "pooler_output");
}

#[test]
fn a_failing_splice_and_a_wrong_shape_are_errors() {
    let host = HostModel::load(&golden("hosts/llama"), test_device()).unwrap();
    let ids = Tensor::from_slice(&[1_i64, 2, 3]).view([1, 3]).to_device(test_device());
    let hook: HookPoint = "resid_post.1".parse().unwrap();
    let failed = host.logits_spliced(&ids, hook, &mut |_| Err("no weights".into())).unwrap_err();
    assert_eq!(failed.to_string(), "splice at `resid_post.1`: no weights");
    let shape = host.logits_spliced(&ids, hook, &mut |x| Ok(x.narrow(1, 0, 2))).unwrap_err();
    let (d, on) = (host.info().d_model, format!("on {:?}", test_device()));
    assert_eq!(
        shape.to_string(),
        format!("activations: expected Float [1, 3, {d}] {on}, got Float [1, 2, {d}] {on}")
    );
    let n = host.info().n_layers;
    let range = host.activations(&ids, format!("attn_out.{n}").parse().unwrap()).unwrap_err();
    assert_eq!(
        range.to_string(),
        format!("hook point `attn_out.{n}`: expected a layer from 0 to {}, got {n}", n - 1)
    );
}

#[test]
fn ids_of_the_wrong_shape_kind_or_range_are_refused() {
    let host = HostModel::load(&golden("hosts/llama"), test_device()).unwrap();
    let hook: HookPoint = "resid_post.0".parse().unwrap();
    let HostInput::Tokens { vocabulary, max_positions } = host.info().input else {
        panic!("a language model reads tokens")
    };
    let last = vocabulary as i64 - 1;
    let ids = Tensor::from_slice(&[1_i64, last, 3]).to_device(test_device());
    let on = format!("on {:?}", test_device());
    let long = max_positions as i64 + 1;
    let zeros = |shape: [i64; 2]| Tensor::zeros(shape, (tch::Kind::Int64, test_device()));
    for (bad, got) in [
        (ids.shallow_clone(), format!("Int64 [3] {on}")),
        (ids.to_kind(tch::Kind::Int).view([1, 3]), format!("Int [1, 3] {on}")),
        (zeros([1, long]), format!("Int64 [1, {long}] {on}")),
        (zeros([0, 3]), format!("Int64 [0, 3] {on}")),
        ((&ids + 1).view([1, 3]), format!("2 to {vocabulary}")),
        ((&ids - 2).view([1, 3]), format!("-1 to {}", last - 2)),
    ] {
        match host.activations(&bad, hook) {
            Err(Error::Input { name: "token ids", got: said, .. }) => assert_eq!(said, got),
            other => panic!("expected an error about token ids, got {other:?}"),
        }
    }
    assert!(host.activations(&ids.view([1, 3]), hook).is_ok());
}

//! Hook points against one another and against the weights: what a pass shows adds up.

use std::collections::HashMap;

use proptest::prelude::*;
use sae_hosts::{HookKind, HookPoint, HostInput, HostModel};
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::support::{golden, max_difference, tensors};

const TOLERANCE: f64 = 1e-5;

/// Every family: its folder, and the scale of what its MLP returns before that is added to the
/// stream, `#` being the layer: a weight, and what is added to it.
const FAMILIES: [(&str, Option<(&str, f64)>); 10] = [
    ("llama", None),
    ("qwen2", None),
    ("qwen3", None),
    ("gemma2", Some(("model.layers.#.post_feedforward_layernorm.weight", 1.0))),
    ("gpt2", None),
    ("gpt_neox", None),
    ("vit", None),
    ("dinov2", Some(("encoder.layer.#.layer_scale2.lambda1", 0.0))),
    ("clip_vision", None),
    ("siglip_vision", None),
];

/// A host and what its golden numbers were computed of.
fn open(family: &str) -> (HostModel, Tensor) {
    let host = HostModel::load(&golden(&format!("hosts/{family}")), test_device()).unwrap();
    let mut expected = tensors(&format!("hosts/{family}/expected.safetensors"));
    let input = match host.info().input {
        HostInput::Images { .. } => "pixel_values",
        _ => "input_ids",
    };
    let input = expected.remove(input).unwrap().to_device(test_device());
    (host, input)
}

fn weights(family: &str) -> HashMap<String, Tensor> {
    let weights = tensors(&format!("hosts/{family}/model.safetensors"));
    weights.into_iter().map(|(name, x)| (name, x.to_device(test_device()))).collect()
}

/// All hook points of a host.
fn hooks(host: &HostModel) -> Vec<HookPoint> {
    let of = |kind: HookKind| {
        let n = if kind.has_layer() { host.info().n_layers } else { 1 };
        (0..n).map(move |layer| HookPoint::new(kind, layer))
    };
    let reads_images = matches!(host.info().input, HostInput::Images { .. });
    let kinds = HookKind::ALL.into_iter();
    kinds.filter(|kind| kind.has_layer() || !reads_images).flat_map(of).collect()
}

#[test]
fn several_hook_points_of_one_pass_are_those_of_single_passes() {
    for (family, _) in FAMILIES {
        let (host, input) = open(family);
        let all = hooks(&host);
        let single: Vec<_> = all.iter().map(|h| host.activations(&input, *h).unwrap()).collect();
        assert_eq!(host.activations_at(&input, &all).unwrap(), single, "{family}");
        proptest!(ProptestConfig::with_cases(8), |(
            wanted in prop::collection::vec(0..all.len(), 0..5),
        )| {
            let hooks: Vec<_> = wanted.iter().map(|i| all[*i]).collect();
            let found = host.activations_at(&input, &hooks).unwrap();
            prop_assert_eq!(found.len(), wanted.len());
            for (i, found) in wanted.iter().zip(&found) {
                prop_assert_eq!(found, &single[*i], "{} {}", family, all[*i]);
            }
        });
        let beyond = HookPoint::new(HookKind::MlpIn, host.info().n_layers);
        let refused = host.activations_at(&input, &[all[0], beyond]).unwrap_err();
        assert!(refused.to_string().starts_with("hook point `mlp_in."), "{refused}");
    }
}

#[test]
fn what_the_mlp_returns_is_added_to_what_it_read() {
    for (family, scale) in FAMILIES {
        let (host, input) = open(family);
        let is_parallel = family == "gpt_neox";
        let weights = weights(family);
        for layer in 0..host.info().n_layers {
            let at = |kind| host.activations(&input, HookPoint::new(kind, layer)).unwrap();
            let (pre, read) = (at(HookKind::ResidPre), at(HookKind::MlpIn));
            let (attention, out) = (at(HookKind::AttnOut), at(HookKind::MlpOut));
            let added = at(HookKind::ResidPost) - &read;
            let close = |got: &Tensor, expected: &Tensor, what: &str| {
                let difference = max_difference(got, expected);
                assert!(difference < TOLERANCE, "{family} {layer} {what}: {difference}");
            };
            match scale {
                None if is_parallel => {
                    close(&read, &pre, "reads what attention does");
                    close(&added, &(attention + out), "adds both");
                }
                None => {
                    close(&read, &(pre + attention), "reads what attention has added to");
                    close(&added, &out, "adds its output");
                }
                Some((name, plus)) => {
                    let name = name.replace('#', &layer.to_string());
                    let scaled = out * (&weights[&name] + plus);
                    // Of a norm, a factor a row is left.
                    let dims: &[i64] = &[-1];
                    let dot =
                        |a: &Tensor, b: &Tensor| (a * b).sum_dim_intlist(dims, true, Kind::Float);
                    let factor = dot(&added, &scaled) / dot(&scaled, &scaled);
                    close(&added, &(&scaled * &factor), "adds its output, scaled");
                    if family == "dinov2" {
                        close(&factor, &factor.ones_like(), "by the scale alone");
                    }
                }
            }
        }
    }
}

#[test]
fn the_embedding_is_that_of_the_tokens_alone() {
    for (family, _) in FAMILIES {
        let (host, input) = open(family);
        let hook = HookPoint::new(HookKind::Embed, 0);
        if let HostInput::Images { .. } = host.info().input {
            assert!(host.activations(&input, hook).is_err(), "{family}");
            continue;
        }
        let names =
            ["model.embed_tokens.weight", "transformer.wte.weight", "gpt_neox.embed_in.weight"];
        let weights = weights(family);
        let table = names.iter().find_map(|name| weights.get(*name)).expect("an embedding");
        let factor = if family == "gemma2" { (host.info().d_model as f64).sqrt() } else { 1.0 };
        let expected = Tensor::embedding(table, &input, -1, false, false) * factor;
        let found = host.activations(&input, hook).unwrap();
        assert!(max_difference(&found, &expected) < TOLERANCE, "{family}");
        let stream = host.activations(&input, HookPoint::new(HookKind::ResidPre, 0)).unwrap();
        assert_eq!(stream == found, family != "gpt2", "{family}: positions are added in GPT-2");
    }
}

/// A norm without shift makes zeros of zeros, and an MLP without biases too.
#[test]
fn what_replaces_the_input_of_the_mlp_is_read_by_it_alone() {
    let (host, ids) = open("llama");
    for layer in 0..host.info().n_layers {
        let spliced = |kind| {
            let hook = HookPoint::new(kind, layer);
            host.logits_spliced(&ids, hook, &mut |x| Ok(x.zeros_like())).unwrap()
        };
        let (read, returned) = (spliced(HookKind::MlpIn), spliced(HookKind::MlpOut));
        assert!(max_difference(&read, &returned) < TOLERANCE, "layer {layer}");
    }
}

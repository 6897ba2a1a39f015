//! Positions after a past against passes over whole texts.

use proptest::prelude::*;
use sae_hosts::{HookKind, HookPoint, HostModel, Past};
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::support::{golden, max_difference};

const FAMILIES: [&str; 6] = ["llama", "qwen2", "qwen3", "gemma2", "gpt2", "gpt_neox"];

const TOLERANCE: f64 = 1e-4;

fn open(family: &str) -> HostModel {
    HostModel::load(&golden(&format!("hosts/{family}")), test_device()).unwrap()
}

/// Tokens `[batch, positions]`.
fn ids(batch: i64, positions: i64, first: i64) -> Tensor {
    let ids = Tensor::arange(batch * positions, (Kind::Int64, test_device())) * 7 + first;
    ids.remainder(30).view([batch, positions])
}

fn hooks(host: &HostModel) -> Vec<HookPoint> {
    let of = |kind: HookKind| {
        let n = if kind.has_layer() { host.info().n_layers } else { 1 };
        (0..n).map(move |layer| HookPoint::new(kind, layer))
    };
    HookKind::ALL.into_iter().flat_map(of).collect()
}

#[test]
fn a_text_in_parts_is_the_text() {
    for family in FAMILIES {
        let host = open(family);
        let hooks = hooks(&host);
        proptest!(ProptestConfig::with_cases(16), |(
            at in 0..hooks.len(), parts in prop::collection::vec(1..5i64, 1..5), scale in 0.5..1.5f64,
        )| {
            let (hook, n) = (hooks[at], parts.iter().sum());
            let ids = ids(2, n, 3);
            let (mut past, mut done) = (Past::new(), 0);
            for part in parts {
                let prefix = host.prefix_after(&mut past, &ids.narrow(1, done, part), hook).unwrap();
                let changed = prefix.activations() * scale;
                let logits = host.next_logits_after(&mut past, &prefix, &changed).unwrap();
                let whole = host.prefix(&ids.narrow(1, 0, done + part), hook).unwrap();
                let expected = host.next_logits_from(&whole, &(whole.activations() * scale)).unwrap();
                let error = max_difference(&logits, &expected);
                prop_assert!(error < TOLERANCE, "{family} {hook} after {done}: {error}");
                done += part;
                past.keep(done as usize);
                prop_assert_eq!(past.length() as i64, done);
            }
        });
    }
}

#[test]
fn one_past_serves_several_texts_that_go_on_otherwise() {
    for family in FAMILIES {
        let host = open(family);
        let (ids, n, first) = (ids(1, 9, 5), 9, 6_usize);
        for hook in hooks(&host) {
            let mut past = Past::new();
            let prefix = host.prefix_after(&mut past, &ids, hook).unwrap();
            let _ = host.next_logits_after(&mut past, &prefix, prefix.activations()).unwrap();
            past.keep(first);
            let mut several = past.expand(3, hook.layer);
            let last = prefix.last(n - first, 3);
            let factors = Tensor::from_slice(&[0.5f32, 1.0, 2.0]).to_device(test_device());
            let rows = last.activations() * factors.view([3, 1, 1]);
            // Of several texts each is what it is alone.
            let (mut both, others) = (Past::new(), Tensor::cat(&[&(29 - &ids), &ids], 0));
            let of_both = host.prefix_after(&mut both, &others, hook).unwrap();
            let _ = host.next_logits_after(&mut both, &of_both, of_both.activations()).unwrap();
            both.keep(first);
            let mut alone = both.of_text(1).expand(1, hook.layer);
            let rest = of_both.of_text(1).last(n - first, 1);
            let got = host.next_logits_after(&mut alone, &rest, rest.activations()).unwrap();
            let expected = host.next_logits_from(&prefix, prefix.activations()).unwrap();
            assert!(max_difference(&got, &expected) < TOLERANCE, "{family} {hook}");
            // Twice: what lies behind the kept positions is computed anew.
            for _ in 0..2 {
                let got = host.next_logits_after(&mut several, &last, &rows).unwrap();
                for (i, factor) in [0.5, 1.0, 2.0].into_iter().enumerate() {
                    let own = prefix.activations();
                    let changed = own.narrow(1, first as i64, (n - first) as i64) * factor;
                    let whole = Tensor::cat(&[&own.narrow(1, 0, first as i64), &changed], 1);
                    let expected = host.next_logits_from(&prefix, &whole).unwrap();
                    let error = max_difference(&got.narrow(0, i as i64, 1), &expected);
                    assert!(error < TOLERANCE, "{family} {hook} {factor}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_past_that_does_not_fit_is_refused() {
    let host = open("llama");
    let hook = HookPoint::new(HookKind::ResidPost, 0);
    let mut past = Past::new();
    host.prefix_after(&mut past, &ids(2, 4, 0), hook).unwrap();
    past.keep(4);
    let refused = |error: sae_hosts::Error| error.to_string();
    // Of other texts, of layers that were not computed, of more positions than there are.
    let error = refused(host.prefix_after(&mut past, &ids(1, 2, 0), hook).unwrap_err());
    assert!(error.contains("4 positions of 1 texts"), "{error}");
    let prefix = host.prefix_after(&mut past, &ids(2, 2, 0), hook).unwrap();
    let next = host.next_logits_after(&mut past, &prefix, prefix.activations()).unwrap_err();
    assert!(refused(next).contains("of layers 1 to"), "layers after the hook point");
    past.keep(7);
    let error = refused(host.prefix_after(&mut past, &ids(2, 2, 0), hook).unwrap_err());
    assert!(error.contains("7 positions of 2 texts"), "{error}");
    let sae_hosts::HostInput::Tokens { max_positions, .. } = host.info().input else { panic!() };
    past.keep(4);
    let most = ids(2, max_positions as i64 - 3, 0);
    let error = refused(host.prefix_after(&mut past, &most, hook).unwrap_err());
    assert!(error.contains(&format!("at most {max_positions} positions")), "{error}");
}

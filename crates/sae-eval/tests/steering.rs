//! Steering of a small Llama with random weights against the definitions.

use sae_eval::{Error, SteerOptions, steer};
use sae_hosts::{HookPoint, HostModel};
use sae_models::{Normalizer, Role, Sae};
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::golden::golden;
use crate::models::{linear, soft};

const PROMPT: [u32; 5] = [3, 1, 4, 1, 5];

fn host() -> HostModel {
    HostModel::load(&golden("hosts/llama"), test_device()).unwrap()
}

fn hook() -> HookPoint {
    "resid_post.1".parse().unwrap()
}

fn tensor(ids: &[u32]) -> Tensor {
    let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
    Tensor::from_slice(&ids).unsqueeze(0).to_device(test_device())
}

/// The likeliest tokens after a prompt, from whole passes with `row` added after the first position.
fn greedy(host: &HostModel, row: &Tensor, n: usize) -> Vec<u32> {
    let mut ids = PROMPT.to_vec();
    for _ in 0..n {
        let logits = host.logits_spliced(&tensor(&ids), hook(), &mut |x| {
            let n = x.size()[1] - 1;
            Ok(Tensor::cat(&[x.narrow(1, 0, 1), x.narrow(1, 1, n) + row], 1))
        });
        let last = logits.unwrap().get(0).get(ids.len() as i64 - 1);
        ids.push(last.argmax(0, false).int64_value(&[]) as u32);
    }
    ids[PROMPT.len()..].to_vec()
}

fn go_on(sae: &Sae, host: &HostModel, options: &SteerOptions) -> Vec<sae_config::Continuation> {
    steer(sae, host, hook(), 7, &PROMPT, options, &mut |_, _| {}).unwrap()
}

#[test]
fn the_decoders_row_is_added_in_the_scale_of_the_host() {
    let host = host();
    let width = host.info().d_model;
    let mut sae = soft(width, 64, 5);
    let row = sae.parameters[Role::DecoderWeight].get(7);
    let options =
        SteerOptions { strengths: vec![0.0, 3000.0, -3000.0], max_tokens: 6, ..Default::default() };
    let plain = go_on(&sae, &host, &options);
    for (of, strength) in plain.iter().zip([0.0, 3000.0, -3000.0]) {
        assert_eq!((of.strength, of.text.clone()), (strength, None));
        assert_eq!(of.tokens, greedy(&host, &(&row * strength), 6), "{strength}");
    }
    assert_ne!(plain[1].tokens, plain[2].tokens);
    // Activations that are normalised by a shift and a scale of 2: the direction is twice as long.
    let shift = Tensor::full([width as i64], 100.0, (Kind::Float, test_device()));
    sae.normalizer = Normalizer::ShiftScale { shift, scale: 2.0 };
    let scaled = go_on(
        &sae,
        &host,
        &SteerOptions { strengths: vec![1500.0], max_tokens: 6, ..Default::default() },
    );
    assert_eq!(scaled[0].tokens, plain[1].tokens);
    let (scaled, plain) = (scaled[0].relative_norm, plain[1].relative_norm);
    assert!((scaled - plain).abs() < 1e-9 * plain);
}

#[test]
fn losses_and_activations_are_those_of_the_untouched_host() {
    let host = host();
    let sae = soft(host.info().d_model, 64, 5);
    let options = SteerOptions { strengths: vec![20.0], max_tokens: 7, ..Default::default() };
    let of = go_on(&sae, &host, &options).remove(0);
    let ids: Vec<u32> = PROMPT.iter().chain(&of.tokens).copied().collect();
    let log_p = host.logits(&tensor(&ids)).unwrap().get(0).log_softmax(-1, Kind::Double);
    let loss = (PROMPT.len()..ids.len())
        .map(|at| -log_p.double_value(&[at as i64 - 1, ids[at].into()]))
        .sum::<f64>()
        / of.tokens.len() as f64;
    assert!((of.loss - loss).abs() < 1e-9 && (of.perplexity - loss.exp()).abs() < 1e-6);
    let x = host.activations(&tensor(&ids), hook()).unwrap().get(0);
    let features = sae.encode(&x.narrow(0, PROMPT.len() as i64, 7)).unwrap().features;
    let mean = features.select(1, 7).mean(Kind::Double).double_value(&[]);
    assert!((of.activation - mean).abs() < 1e-9);
    let x = host.activations(&tensor(&PROMPT), hook()).unwrap().get(0).narrow(0, 1, 4);
    let norm = sae.parameters[Role::DecoderWeight].get(7).norm().double_value(&[]);
    let norms = x.norm_scalaropt_dim(2.0, [1i64].as_slice(), false).to_kind(Kind::Double);
    let ratio = 20.0 * norm * norms.reciprocal().mean(Kind::Double).double_value(&[]);
    assert!((of.relative_norm - ratio).abs() < 1e-4 * ratio, "{} {ratio}", of.relative_norm);
}

#[test]
fn draws_follow_the_seed_and_strengths_the_norm() {
    let host = host();
    let sae = soft(host.info().d_model, 64, 5);
    let drawn = |seed, temperature| {
        let options = SteerOptions { seed, temperature, max_tokens: 12, ..Default::default() };
        go_on(&sae, &host, &options)
    };
    let (first, again, other) = (drawn(1, 2.0), drawn(1, 2.0), drawn(2, 2.0));
    assert_eq!(first, again);
    assert_ne!(first[0].tokens, other[0].tokens);
    let sizes: Vec<f64> = first.iter().map(|of| of.relative_norm).collect();
    for (size, expected) in sizes.iter().zip([0.0, 0.25, 0.5, 1.0, 2.0]) {
        assert!((size - expected).abs() < 1e-9, "{sizes:?}");
    }
    assert_eq!(drawn(1, 0.0)[0].tokens, drawn(2, 0.0)[0].tokens);
}

#[test]
fn what_cannot_be_steered_is_refused_by_name() {
    let host = host();
    let width = host.info().d_model;
    let refused = |sae: &Sae, feature, prompt: &[u32], options: &SteerOptions| {
        let got = steer(sae, &host, hook(), feature, prompt, options, &mut |_, _| {});
        got.unwrap_err().to_string()
    };
    let (sae, fine) = (soft(width, 64, 5), SteerOptions::default());
    assert_eq!(refused(&sae, 64, &PROMPT, &fine), "feature: expected 0 to 63, got 64");
    assert!(refused(&sae, 1, &PROMPT[..1], &fine).starts_with("prompt: expected more tokens"));
    assert!(refused(&sae, 1, &[1, 99_999], &fine).contains("99999"));
    assert!(refused(&linear(width, 0.0, 0.0), 1, &PROMPT, &fine).contains("all zeros"));
    let other = soft(width + 1, 64, 5);
    assert!(refused(&other, 1, &PROMPT, &fine).starts_with("d_model: expected"));
    for (options, name) in [
        (SteerOptions { strengths: vec![f64::NAN], ..fine.clone() }, "strength"),
        (SteerOptions { strengths: vec![0.0, -1e38], ..fine.clone() }, "strength"),
        (SteerOptions { temperature: -1.0, ..fine.clone() }, "temperature"),
        (SteerOptions { max_tokens: 0, ..fine.clone() }, "max_tokens"),
        (SteerOptions { max_tokens: 1 << 20, ..fine.clone() }, "max_tokens"),
    ] {
        let got = refused(&sae, 1, &PROMPT, &options);
        assert!(got.starts_with(&format!("{name}: expected")), "{got}");
    }
    let error = steer(
        &sae,
        &host,
        hook(),
        1,
        &PROMPT,
        &SteerOptions { max_tokens: 0, ..fine },
        &mut |_, _| {},
    );
    assert!(matches!(error, Err(Error::Setting { .. })));
}

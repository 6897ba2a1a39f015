//! SAEs spliced into a small Llama with random weights, whose logits are golden.

use std::path::Path;

use sae_config::CrossEntropy;
use sae_eval::{CrossEntropyOptions, Error, cross_entropy, cross_entropy_of_tokens};
use sae_hosts::{Bos, HookPoint, HostInput, HostModel};
use sae_models::Sae;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::golden::golden;
use crate::models::{linear, soft};

fn host() -> HostModel {
    HostModel::load(&golden("hosts/llama"), test_device()).unwrap()
}

/// The dimension of the host's residual stream.
fn width() -> usize {
    host().info().d_model
}

/// The number of the host's tokens.
fn vocabulary() -> u32 {
    match host().info().input {
        HostInput::Tokens { vocabulary, .. } => vocabulary as u32,
        _ => panic!("a language model reads tokens"),
    }
}

fn hook(text: &str) -> HookPoint {
    text.parse().unwrap()
}

fn expected(name: &str) -> Tensor {
    let tensors = Tensor::read_safetensors(golden("hosts/llama/expected.safetensors")).unwrap();
    tensors
        .into_iter()
        .find(|(key, _)| key == name)
        .expect("a golden tensor")
        .1
        .to_device(test_device())
}

fn contexts() -> Vec<Vec<u32>> {
    let ids = Vec::<Vec<i64>>::try_from(expected("input_ids")).unwrap();
    ids.into_iter().map(|ids| ids.into_iter().map(|id| id as u32).collect()).collect()
}

fn options(skip_positions: usize, batch_size: usize) -> CrossEntropyOptions {
    CrossEntropyOptions { skip_positions, batch_size, ..CrossEntropyOptions::default() }
}

fn measure(
    sae: &Sae,
    hook: HookPoint,
    contexts: &[Vec<u32>],
    options: CrossEntropyOptions,
) -> CrossEntropy {
    cross_entropy_of_tokens(sae, &host(), hook, contexts, options, &mut |_, _| {}).unwrap()
}

/// Mean next-token loss and mean KL from `clean`, by their definitions.
fn by_definition(
    logits: &Tensor,
    clean: &Tensor,
    contexts: &[Vec<u32>],
    skip: usize,
) -> (f64, f64) {
    let log_p = |logits: &Tensor, context: usize, position: usize| -> Vec<f64> {
        let row = logits.get(context as i64).get(position as i64).to_kind(Kind::Double);
        let row = Vec::<f64>::try_from(row).unwrap();
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = row.iter().map(|l| (l - max).exp()).sum::<f64>().ln() + max;
        row.iter().map(|l| l - log_sum).collect()
    };
    let (mut loss, mut kl, mut n) = (0.0, 0.0, 0.0);
    for (c, ids) in contexts.iter().enumerate() {
        for t in skip..ids.len() - 1 {
            let (q, p) = (log_p(logits, c, t), log_p(clean, c, t));
            loss -= q[ids[t + 1] as usize];
            kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            n += 1.0;
        }
    }
    (loss / n, kl / n)
}

#[test]
fn the_clean_loss_is_that_of_the_golden_logits() {
    let (contexts, logits) = (contexts(), expected("logits"));
    for skip in [0, 1, 5] {
        let got =
            measure(&linear(width(), 0.5, 0.0), hook("resid_post.1"), &contexts, options(skip, 4));
        let (loss, _) = by_definition(&logits, &logits, &contexts, skip);
        assert!((got.clean - loss).abs() < 1e-4, "expected {loss}, got {}", got.clean);
        let predictions: usize = contexts.iter().map(|ids| ids.len() - 1 - skip).sum();
        assert_eq!(got.n_tokens, predictions as u64);
    }
}

#[test]
fn losses_and_divergences_follow_their_definitions() {
    let (host, contexts, skip) = (host(), contexts(), 2);
    let ids = expected("input_ids");
    let clean = host.logits(&ids).unwrap();
    for name in ["resid_pre.1", "resid_post.0", "attn_out.2", "mlp_out.1"] {
        let (hook, sae) = (hook(name), soft(width(), 64, 5));
        let got = measure(&sae, hook, &contexts, options(skip, 4));
        let rest = ids.size()[1] - skip as i64;
        let splice = |replace: &dyn Fn(Tensor) -> Tensor| {
            host.logits_spliced(&ids, hook, &mut |x| {
                let replaced = replace(x.narrow(1, skip as i64, rest));
                Ok(Tensor::cat(&[x.narrow(1, 0, skip as i64), replaced], 1))
            })
            .unwrap()
        };
        let spliced = splice(&|x| {
            let rows = x.reshape([-1, width() as i64]);
            sae.decode(&sae.encode(&rows).unwrap()).unwrap().reshape(x.size())
        });
        let zero = splice(&|x| x.zeros_like());
        let close = |got: f64, expected: f64| {
            assert!((got - expected).abs() < 1e-5, "{name}: expected {expected}, got {got}");
        };
        let (clean_loss, _) = by_definition(&clean, &clean, &contexts, skip);
        let (spliced_loss, kl_spliced) = by_definition(&spliced, &clean, &contexts, skip);
        let (zero_loss, kl_zero) = by_definition(&zero, &clean, &contexts, skip);
        close(got.clean, clean_loss);
        close(got.spliced, spliced_loss);
        close(got.zero, zero_loss);
        close(got.kl_spliced, kl_spliced);
        close(got.kl_zero, kl_zero);
        assert_eq!(got.ce_recovered, (got.zero - got.spliced) / (got.zero - got.clean));
        assert!((got.kl_recovered - (1.0 - got.kl_spliced / got.kl_zero)).abs() < 1e-12);
    }
}

/// Spearman's correlation by its definition, ranks counted one by one.
fn rank_correlation(pairs: &[(f64, f64)]) -> f64 {
    let rank = |of: &dyn Fn(&(f64, f64)) -> f64, at: f64| {
        let count = |test: &dyn Fn(f64) -> bool| pairs.iter().filter(|p| test(of(p))).count();
        count(&|v| v < at) as f64 + (count(&|v| v == at) as f64 - 1.0) / 2.0
    };
    let middle = (pairs.len() as f64 - 1.0) / 2.0;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for &(x, y) in pairs {
        let (x, y) = (rank(&|p| p.0, x) - middle, rank(&|p| p.1, y) - middle);
        (xy, xx, yy) = (xy + x * y, xx + x * x, yy + y * y);
    }
    xy / (xx * yy).sqrt()
}

#[test]
fn numbers_of_features_are_held_against_the_loss_at_their_position() {
    let (host, contexts, hook, skip) = (host(), contexts(), hook("resid_post.1"), 2);
    let (ids, sae) = (expected("input_ids"), soft(width(), 64, 5));
    let got = measure(&sae, hook, &contexts, options(skip, 4));
    let clean = host.logits(&ids).unwrap();
    let activations = host.prefix(&ids, hook).unwrap().activations().copy();
    let (mut next, mut own) = (vec![], vec![]);
    for (c, context) in contexts.iter().enumerate() {
        let features = sae.encode(&activations.get(c as i64)).unwrap().features;
        let log_p = clean.get(c as i64).log_softmax(-1, Kind::Double);
        let loss = |t: usize| -log_p.double_value(&[t as i64, context[t + 1].into()]);
        let l0 = |t: usize| features.get(t as i64).ne(0.0).sum(Kind::Double).double_value(&[]);
        for t in skip..context.len() - 1 {
            next.push((l0(t), loss(t)));
            own.push((l0(t + 1), loss(t)));
        }
    }
    for (got, pairs) in [(got.spearman_l0_next_loss, &next), (got.spearman_l0_own_loss, &own)] {
        let expected = rank_correlation(pairs);
        assert!((got.unwrap() - expected).abs() < 1e-9, "expected {expected}, got {got:?}");
    }
    assert!(got.spearman_l0_next_loss != got.spearman_l0_own_loss);
}

#[test]
fn a_perfect_sae_recovers_all_and_a_silent_one_nothing() {
    for name in ["resid_post.1", "attn_out.0"] {
        let perfect = measure(&linear(width(), 1.0, 0.0), hook(name), &contexts(), options(1, 4));
        assert_eq!((perfect.ce_recovered, perfect.kl_recovered), (1.0, 1.0));
        let silent = measure(&linear(width(), 0.0, 0.0), hook(name), &contexts(), options(1, 4));
        assert_eq!((silent.ce_recovered, silent.kl_recovered), (0.0, 0.0));
        assert!(silent.kl_zero > 0.0);
    }
}

#[test]
fn batches_and_ragged_contexts_change_nothing() {
    let mut contexts = contexts();
    contexts.truncate(2);
    let whole = contexts[0].len() as u64 - 2;
    contexts.push(contexts[0][..9].to_vec());
    contexts.push(contexts[1][3..12].to_vec());
    // Too short to hold a prediction after the first position.
    contexts.push(contexts[1][..2].to_vec());
    contexts.push(contexts[0][..3].to_vec());
    let sae = soft(width(), 64, 6);
    let one = measure(&sae, hook("resid_post.1"), &contexts, options(1, 1));
    assert_eq!(one.n_tokens, 2 * whole + 7 + 7 + 1);
    for batch_size in [2, 3, 100] {
        let mut steps = vec![];
        let got = cross_entropy_of_tokens(
            &sae,
            &host(),
            hook("resid_post.1"),
            &contexts,
            options(1, batch_size),
            &mut |done, total| steps.push((done, total)),
        )
        .unwrap();
        assert_eq!(steps, [(2, 5), (4, 5), (5, 5)]);
        assert_eq!(got.n_tokens, one.n_tokens);
        // The host computes in f32.
        assert!((got.spliced - one.spliced).abs() < 1e-5);
        assert!((got.kl_zero - one.kl_zero).abs() < 1e-5);
    }
}

/// The golden host with a tokenizer whose words are `w0`, `w1`, ….
pub(crate) fn host_with_tokenizer(dir: &Path) -> HostModel {
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("hosts/llama").join(name), dir.join(name)).unwrap();
    }
    let vocabulary: serde_json::Map<_, _> =
        (0..vocabulary()).map(|i| (format!("w{i}"), i.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    HostModel::load(dir, test_device()).unwrap()
}

#[test]
fn texts_are_cut_into_contexts_each_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (host, sae) = (host_with_tokenizer(dir.path()), soft(width(), 64, 7));
    let ids: Vec<u32> = (0..25).map(|i| i * 37 % vocabulary()).collect();
    let text: String = ids.iter().map(|id| format!("w{id} ")).collect();
    let cut = CrossEntropyOptions { context_length: 8, max_tokens: Some(21), ..options(1, 4) };
    let texts = [text.as_str(), "w5 w6 w7"];
    let hook = hook("resid_post.1");
    let got = cross_entropy(&sae, &host, hook, &texts, cut, &mut |_, _| {}).unwrap();
    let contexts: Vec<Vec<u32>> =
        [&ids[..8], &ids[8..16], &ids[16..21], &[5, 6, 7]].map(<[u32]>::to_vec).to_vec();
    assert_eq!(got, measure(&sae, hook, &contexts, options(1, 4)));

    let prepended = CrossEntropyOptions { bos: Bos::Token(vocabulary() - 1), ..cut };
    let got = cross_entropy(&sae, &host, hook, &texts, prepended, &mut |_, _| {}).unwrap();
    let contexts: Vec<Vec<u32>> = [&ids[..7], &ids[7..14], &ids[14..21], &[5, 6, 7]]
        .map(|ids| [&[vocabulary() - 1], ids].concat())
        .to_vec();
    assert_eq!(got, measure(&sae, hook, &contexts, options(1, 4)));
}

#[test]
fn what_cannot_be_measured_is_named() {
    let (host, contexts) = (host(), contexts());
    let n = host.info().n_layers;
    let run = |sae: &Sae, name: &str, contexts: &[Vec<u32>], options| {
        cross_entropy_of_tokens(sae, &host, hook(name), contexts, options, &mut |_, _| {})
    };
    let text = |result: Result<CrossEntropy, Error>| result.unwrap_err().to_string();
    let sae = linear(width(), 1.0, 0.0);
    assert_eq!(
        text(run(&linear(width() - 1, 1.0, 0.0), "resid_post.1", &contexts, options(1, 4))),
        format!("d_model: expected {} as the sae has it, got {} of the host", width() - 1, width())
    );
    assert_eq!(
        text(run(&sae, &format!("resid_post.{n}"), &contexts, options(1, 4))),
        format!("hook point `resid_post.{n}`: expected a layer from 0 to {}, got {n}", n - 1)
    );
    assert_eq!(
        text(run(&sae, "resid_post.1", &[vec![1, 2]], options(1, 4))),
        "predictions to count: expected at least one, got none"
    );
    assert_eq!(
        text(run(&sae, "resid_post.1", &contexts, options(1, 0))),
        "batch_size: expected at least 1, got 0"
    );
    let short = CrossEntropyOptions { context_length: 4, ..options(3, 4) };
    assert_eq!(
        text(run(&sae, "resid_post.1", &contexts, short)),
        "context_length: expected at least 5, got 4"
    );
    let no_tokenizer =
        cross_entropy(&sae, &host, hook("resid_post.1"), &["a"], options(1, 4), &mut |_, _| {});
    assert!(text(no_tokenizer).contains("tokenizer.json"));
}

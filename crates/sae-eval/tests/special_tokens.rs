//! Cross-entropy of texts with special tokens, against its definition.

use std::path::Path;

use sae_eval::{CrossEntropyOptions, Error, cross_entropy};
use sae_hosts::{Bos, HookPoint, HostModel, SpecialTokens};
use sae_models::Sae;
use serde_json::json;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::golden::golden;
use crate::models::soft;

/// Tokens that are special, of which the first is the bos; the vocabulary is `w0`, `w1`, ….
const SPECIAL: [u32; 2] = [3, 7];

fn host(folder: &Path) -> HostModel {
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("hosts/llama").join(name), folder.join(name)).unwrap();
    }
    let vocabulary: serde_json::Map<_, _> = (0..40).map(|i| (format!("w{i}"), i.into())).collect();
    let added = SPECIAL.map(|id| {
        json!({"id": id, "content": format!("w{id}"), "single_word": true, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), r#"{"bos_token": "w3"}"#).unwrap();
    HostModel::load(folder, test_device()).unwrap()
}

fn hook() -> HookPoint {
    "resid_post.1".parse().unwrap()
}

/// Number of predictions, clean loss, and loss and divergence with reconstructions and with zeros,
/// one context and one position at a time.
fn by_definition(
    host: &HostModel,
    sae: &Sae,
    contexts: &[Vec<u32>],
    left_out: &dyn Fn(&[u32], usize) -> bool,
) -> [f64; 6] {
    let mut sums = [0.0; 6];
    for context in contexts {
        let ids: Vec<i64> = context.iter().map(|id| i64::from(*id)).collect();
        let input = Tensor::from_slice(&ids).unsqueeze(0).to_device(test_device());
        let own = host.activations(&input, hook()).unwrap().get(0);
        let rebuilt = sae.decode(&sae.encode(&own).unwrap()).unwrap();
        let logits = |rebuilt: &Tensor| {
            let rows: Vec<Tensor> = (0..ids.len())
                .map(|at| if left_out(context, at) { &own } else { rebuilt }.get(at as i64))
                .collect();
            let rows = Tensor::stack(&rows, 0).unsqueeze(0);
            let spliced = host.logits_spliced(&input, hook(), &mut |_| Ok(rows.shallow_clone()));
            spliced.unwrap().get(0).log_softmax(-1, Kind::Double)
        };
        let all = [logits(&own), logits(&rebuilt), logits(&own.zeros_like())];
        for at in 0..ids.len() - 1 {
            if left_out(context, at) || left_out(context, at + 1) {
                continue;
            }
            let log_p = |version: usize| Vec::<f64>::try_from(all[version].get(at as i64)).unwrap();
            let p = log_p(0);
            let loss = |version: usize| -log_p(version)[ids[at + 1] as usize];
            let kl = |version: usize| -> f64 {
                p.iter().zip(log_p(version)).map(|(p, q)| p.exp() * (p - q)).sum()
            };
            let terms = [1.0, loss(0), loss(1), loss(2), kl(1), kl(2)];
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
    }
    let n = sums[0];
    sums[1..].iter_mut().for_each(|sum| *sum /= n);
    sums
}

#[test]
fn special_tokens_keep_their_activations_and_are_not_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let sae = soft(host.info().d_model, 64, 8);
    let texts: [&[u32]; 2] =
        [&[3, 11, 12, 7, 13, 14, 15, 7, 7, 16, 17, 3, 18], &[20, 21, 22, 7, 23, 24]];
    let words = |ids: &[u32]| ids.iter().map(|id| format!("w{id} ")).collect::<String>();
    let contents = texts.map(words);
    let mut counts = vec![];
    for (bos, lead) in [(Bos::Auto, None), (Bos::Never, None), (Bos::Always, Some(3))] {
        for special_tokens in [SpecialTokens::Dropped, SpecialTokens::Kept] {
            for skip_positions in [0, 1, 2] {
                let options = CrossEntropyOptions {
                    context_length: 7,
                    skip_positions,
                    bos,
                    special_tokens,
                    ..CrossEntropyOptions::default()
                };
                let texts_of = contents.each_ref().map(String::as_str);
                let got =
                    cross_entropy(&sae, &host, hook(), &texts_of, options, &mut |_, _| {}).unwrap();
                let chunk = if lead.is_some() { 6 } else { 7 };
                let contexts: Vec<Vec<u32>> = texts
                    .iter()
                    .flat_map(|ids| ids.chunks(chunk))
                    .map(|ids| lead.iter().chain(ids).copied().collect())
                    .collect();
                let left_out = |ids: &[u32], at: usize| {
                    let is_lead = at == 0 && lead.is_some();
                    let is_special = SPECIAL.contains(&ids[at]) && !is_lead;
                    at < skip_positions || is_special && special_tokens == SpecialTokens::Dropped
                };
                let expected = by_definition(&host, &sae, &contexts, &left_out);
                let got = [
                    got.n_tokens as f64,
                    got.clean,
                    got.spliced,
                    got.zero,
                    got.kl_spliced,
                    got.kl_zero,
                ];
                let of = format!("{bos:?} {special_tokens:?} {skip_positions}");
                for (got, expected) in got.iter().zip(expected) {
                    assert!((got - expected).abs() < 1e-5, "{of}: {expected}, got {got}");
                }
                counts.push(got[0]);
            }
        }
    }
    // Counted by hand, of contexts `3 11 12 7 13 14 15 | 7 7 16 17 3 18 | 20 21 22 7 23 24`.
    assert_eq!(counts[..6], [7.0, 6.0, 4.0, 16.0, 13.0, 10.0]);
}

#[test]
fn texts_of_special_tokens_alone_have_nothing_to_predict() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let sae = soft(host.info().d_model, 64, 8);
    let run = |special_tokens| {
        let options = CrossEntropyOptions { special_tokens, ..CrossEntropyOptions::default() };
        let options = CrossEntropyOptions { context_length: 8, ..options };
        cross_entropy(&sae, &host, hook(), &["w3 w7 w7 w3"], options, &mut |_, _| {})
    };
    let error = run(SpecialTokens::Dropped).unwrap_err();
    assert!(matches!(error, Error::Empty { .. }), "{error}");
    assert_eq!(run(SpecialTokens::Kept).unwrap().n_tokens, 2);
}

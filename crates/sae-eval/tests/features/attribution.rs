//! What features promote, against the weights of hosts.

use std::path::{Path, PathBuf};

use sae_config::TokenLogit;
use sae_hosts::HostModel;
use sae_models::{Role, Sae};
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use super::{N_FEATURES, describe, store};
use crate::models::soft;

fn hosts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sae-hosts/testdata/golden/hosts")
}

/// W_U(g ⊙ norm(d)) in f64, where `centred` says whether the norm takes off the mean.
fn logits(host: &str, sae: &Sae, names: [&str; 2], centred: bool) -> Vec<Vec<f64>> {
    let tensors = Tensor::read_safetensors(hosts().join(host).join("model.safetensors")).unwrap();
    let tensor = |name: &str| {
        let found = tensors.iter().find(|(key, _)| key == name).expect("a tensor of the host");
        found.1.to_kind(Kind::Double)
    };
    let mut d =
        sae.parameters[Role::DecoderWeight].to_kind(Kind::Double).to_device(tch::Device::Cpu);
    if centred {
        d = &d - d.mean_dim(1i64, true, Kind::Double);
    }
    let rms = d.square().mean_dim(1i64, true, Kind::Double).sqrt();
    let logits = (d / rms * tensor(names[0])).mm(&tensor(names[1]).tr());
    Vec::try_from(logits).unwrap()
}

#[test]
fn attribution_is_that_of_the_final_norm_and_the_unembedding() {
    let dir = tempfile::tempdir().unwrap();
    for (name, names, centred) in [
        ("llama", ["model.norm.weight", "model.embed_tokens.weight"], false),
        ("gpt2", ["transformer.ln_f.weight", "transformer.wte.weight"], true),
    ] {
        let host = HostModel::load(&hosts().join(name), test_device()).unwrap();
        let d_model = host.info().d_model;
        let store = store(&dir.path().join(name), d_model, true);
        let sae = soft(d_model, N_FEATURES, 4);
        let (records, _) = describe(&sae, store.as_ref(), Some(&host));
        let expected = logits(name, &sae, names, centred);
        for (record, logits) in records.iter().zip(expected) {
            let found = record.attribution.as_ref().unwrap();
            assert_eq!(found.histogram.counts.iter().sum::<u64>() as usize, logits.len());
            let mut sorted = logits.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let check = |tokens: &[TokenLogit], sorted: &mut dyn Iterator<Item = &f64>| {
                assert_eq!(tokens.len(), 10.min(logits.len()));
                for (token, expected) in tokens.iter().zip(sorted) {
                    for expected in [*expected, logits[token.id as usize]] {
                        let off = (f64::from(token.value) - expected).abs();
                        assert!(off < 2e-3, "{name}: {} for {expected}", token.value);
                    }
                }
            };
            check(&found.promoted, &mut sorted.iter());
            check(&found.suppressed, &mut sorted.iter().rev());
        }
    }
}

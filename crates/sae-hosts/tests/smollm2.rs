//! The real SmolLM2-135M: weights to the bit, tokens exactly, activations and losses.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, OnceLock};

use sae_data::open_store;
use sae_hosts::{GgufFile, HarvestOptions, HookPoint, HostInput, HostModel, Text, harvest};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::support::{golden, max_difference, max_row_error, smollm2};

fn facts() -> Value {
    let text = std::fs::read(golden("smollm2/golden.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// One copy of the model for all tests.
fn host() -> MutexGuard<'static, HostModel> {
    static HOST: OnceLock<Mutex<HostModel>> = OnceLock::new();
    let host = HOST.get_or_init(|| HostModel::load(&smollm2(), Device::Cpu).unwrap().into());
    host.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn npy(name: &str) -> Tensor {
    let path = golden("smollm2").join(format!("{name}.npy"));
    Tensor::read_npy(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn ids(values: &Value) -> Vec<i64> {
    values.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

fn activation_ids() -> Tensor {
    Tensor::from_slice(&ids(&facts()["activation_ids"])).unsqueeze(0)
}

#[test]
fn dequantised_weights_are_exact_to_the_bit() {
    let file = GgufFile::open(&smollm2()).unwrap();
    let facts = facts();
    let checks = facts["dequant_checks"].as_object().unwrap();
    assert!(checks.len() >= 6);
    for (name, check) in checks {
        let shape = file.shape(name).unwrap();
        let expected_shape = check["shape_rows_cols"].as_array().unwrap();
        assert!(shape.iter().copied().eq(expected_shape.iter().map(|n| n.as_u64().unwrap())));
        let weights = file.read_f32(name).unwrap();
        let bits: u64 = weights.iter().map(|weight| u64::from(weight.to_bits())).sum();
        assert_eq!(Some(bits), check["sum_of_f32_bits_u64"].as_u64(), "{name}");
        for (key, slice) in [("first8", &weights[..8]), ("last4", &weights[weights.len() - 4..])] {
            let expected: Vec<_> =
                check[key].as_array().unwrap().iter().map(|w| w.as_f64().unwrap() as f32).collect();
            assert_eq!(slice, expected, "{name} {key}");
        }
    }
}

#[test]
fn the_host_is_described() {
    let host = host();
    let info = host.info();
    assert_eq!((info.family.as_str(), info.n_layers, info.d_model), ("llama", 30, 576));
    assert_eq!(info.input, HostInput::Tokens { vocabulary: 49_152, max_positions: 8192 });
    let special = host.tokenizer().unwrap().special_ids();
    assert_eq!(special, (0..17).collect::<Vec<u32>>());
}

#[test]
fn tokens_are_exact_and_decode_to_the_text() {
    let host = host();
    let tokenizer = host.tokenizer().unwrap();
    for text in facts()["tokenizer_texts"].as_array().unwrap() {
        let content = text["text"].as_str().unwrap();
        let got = tokenizer.encode(content).unwrap();
        let expected = ids(&text["ids"]);
        assert!(got.iter().map(|id| i64::from(*id)).eq(expected), "{}", text["name"]);
        assert_eq!(tokenizer.decode(&got).unwrap(), content);
    }
}

#[test]
fn activations_agree_with_the_golden_rows() {
    let (host, ids) = (host(), activation_ids());
    for (hook, name) in [
        ("resid_pre.0", "embed"),
        ("resid_post.0", "resid_post_layer0"),
        ("resid_pre.1", "resid_post_layer0"),
        ("resid_post.15", "resid_post_layer15"),
        ("resid_post.29", "resid_post_layer29"),
    ] {
        let got =
            host.activations(&ids, hook.parse::<HookPoint>().unwrap()).unwrap().squeeze_dim(0);
        let error = max_row_error(&got, &npy(name));
        assert!(error < 1e-3, "{hook}: {error}");
    }
}

#[test]
fn logits_and_cross_entropy_agree() {
    let (host, ids) = (host(), activation_ids());
    let logits = host.logits(&ids).unwrap().squeeze_dim(0);
    let n = logits.size()[0];
    let error = max_row_error(&logits.get(n - 1), &npy("logits_last_token"));
    assert!(error < 1e-3, "logits: {error}");
    let last = logits.get(n - 1).argmax(0, false).int64_value(&[]);
    assert_eq!(Some(last), facts()["argmax_last"].as_i64());

    let targets = ids.squeeze_dim(0).narrow(0, 1, n - 1);
    let losses = logits.narrow(0, 0, n - 1).cross_entropy_loss::<Tensor>(
        &targets,
        None,
        tch::Reduction::None,
        -100,
        0.0,
    );
    assert!(max_difference(&losses, &npy("ce_per_token")) < 1e-3);
    let mean = losses.mean(Kind::Double).double_value(&[]);
    let expected = facts()["ce_mean_nats_31_predictions"].as_f64().unwrap();
    assert!((mean - expected).abs() < 1e-3, "{mean} against {expected}");
}

#[test]
fn a_batch_and_right_padding_do_not_change_a_row() {
    let (host, ids) = (host(), activation_ids());
    let hook: HookPoint = "resid_post.15".parse().unwrap();
    let alone = host.activations(&ids, hook).unwrap();
    let longer = Tensor::cat(&[&ids, &ids.narrow(1, 3, 8)], 1);
    let other = longer.flip([1]);
    let batched = host.activations(&Tensor::cat(&[&other, &longer], 0), hook).unwrap();
    let error = max_row_error(&batched.get(1).narrow(0, 0, ids.size()[1]), &alone.get(0));
    assert!(error < 1e-3, "{error}");
}

#[test]
fn pieces_of_a_long_text_give_the_tokens_of_the_whole() {
    let host = host();
    let tokenizer = host.tokenizer().unwrap();
    let paragraph = "He said 12 things.\n\nThen -- nothing\n  at all 7\n\n\nEnd of page\n";
    let text = paragraph.repeat((3 << 18) / paragraph.len());
    let n = tokenizer.encode(paragraph).unwrap().len();
    let ids = tokenizer.encode(&text).unwrap();
    let whole = tokenizer.encode(&paragraph.repeat(2)).unwrap();
    assert!(n > 0 && ids.starts_with(&whole));
    let period = whole.len() - n;
    let repeats = ids[..ids.len() - n].chunks_exact(period).all(|chunk| *chunk == ids[..period]);
    assert!(repeats, "a cut changed the tokens");
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
}

#[test]
fn a_harvest_holds_the_golden_rows_but_the_first() {
    let host = host();
    let facts = facts();
    let content = facts["activation_text"].as_str().unwrap().to_owned();
    let text = Text { name: "golden".to_owned(), content };
    let n = ids(&facts["activation_ids"]).len();
    let options = HarvestOptions { context_length: n, ..HarvestOptions::default() };
    let out = tempfile::tempdir().unwrap();
    let hook: HookPoint = "resid_post.15".parse().unwrap();
    let mut go_on = |_: &_| ControlFlow::Continue(());
    harvest(&host, &[text], hook, &options, out.path(), &mut go_on).unwrap();

    let store = open_store(out.path()).unwrap();
    let mut rows = vec![0.0; (n - 1) * store.d_model()];
    assert_eq!((store.n_rows(), store.d_model()), (n as u64 - 1, 576));
    store.read_rows(0, &mut rows).unwrap();
    let got = Tensor::from_slice(&rows).view([n as i64 - 1, 576]);
    let error = max_row_error(&got, &npy("resid_post_layer15").narrow(0, 1, n as i64 - 1));
    assert!(error < 1e-3, "{error}");
}

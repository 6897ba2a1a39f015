//! What cannot be read is refused, and named.

use sae_models::{Format, import, read_tensors};

use super::{copied, edit, refusal, testdata};

#[test]
fn what_cannot_be_read_is_named() {
    let dir = copied(&testdata("saelens").join("topk"));
    let path = dir.path().join("cfg.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        refusal(dir.path(), Format::SaeLens)
    };
    let error = with("\"topk\"", "\"transcoder\"");
    assert!(
        error.contains("cfg.json: expected `architecture`")
            && error.ends_with("got transcoder, whose output is not its input"),
        "{error}"
    );
    let error = with("\"k\": 5", "\"k\": \"five\"");
    assert!(
        error.contains("cfg.json: expected `k` a whole number above 0, got \"five\""),
        "{error}"
    );
    let error = with("\"d_sae\": 40", "\"d_sae\": 41");
    assert!(
        error.contains("sae_weights.safetensors: tensor `W_enc`: expected shape [12, 41]"),
        "{error}"
    );
    let error =
        with("\"normalize_activations\": \"none\"", "\"normalize_activations\": \"whiten\"");
    assert!(error.contains("`normalize_activations`") && error.ends_with("got whiten"), "{error}");

    let dir = copied(&testdata("saelens").join("batchtopk"));
    let weights = dir.path().join("sae_weights.safetensors");
    let mut tensors = read_tensors(&weights).unwrap();
    let _ = tensors.get_mut("threshold").unwrap().get(0).fill_(9.0);
    sae_models::write_tensors(&weights, tensors.iter().map(|(n, t)| (n.as_str(), t))).unwrap();
    let read = import(dir.path(), Format::SaeLens).unwrap().sae;
    assert_eq!(read.config().code.name(), "jumprelu", "its thresholds differ");
}

#[test]
fn a_scale_that_is_not_in_the_weights_is_asked_for() {
    let dir = copied(&testdata("saelens").join("standard_unfolded"));
    let scaler = dir.path().join("activation_scaler.json");
    let with = |text: &str| {
        std::fs::write(&scaler, text).unwrap();
        refusal(dir.path(), Format::SaeLens)
    };
    let asked = "expected `normalize_activations` `none`, or activation_scaler.json";
    assert!(with("{\"scaling_factor\": null}").contains(asked));
    for odd in ["0", "-1.0", "\"0.05\"", "1e400"] {
        let error = with(&format!("{{\"scaling_factor\": {odd}}}"));
        assert!(error.contains("activation_scaler.json"), "{odd}: {error}");
    }
    let error = with("{\"scaling_factor\": 0.05, \"has_whitening\": true}");
    assert!(error.contains("`has_whitening` false"), "{error}");
    let error = with("{\"scaling_factor\": 0.05, \"shift\": 1}");
    assert!(error.contains("`shift`: 1"), "{error}");
    std::fs::remove_file(&scaler).unwrap();
    assert!(refusal(dir.path(), Format::SaeLens).contains(asked));

    let dir = copied(&testdata("saelens").join("standard"));
    let scaler = dir.path().join("activation_scaler.json");
    std::fs::write(&scaler, "{\"scaling_factor\": null}").unwrap();
    assert!(import(dir.path(), Format::SaeLens).is_ok());
    std::fs::write(&scaler, "{\"scaling_factor\": 2.0}").unwrap();
    assert!(refusal(dir.path(), Format::SaeLens).contains("`scaling_factor` null, as"));
    edit(dir.path(), "cfg.json", "normalize_activations", "covariance_whitening".into());
    assert!(refusal(dir.path(), Format::SaeLens).contains("scaling_factor"));
    std::fs::remove_file(&scaler).unwrap();
    assert!(refusal(dir.path(), Format::SaeLens).ends_with("got covariance_whitening"));
}

#[test]
fn settings_that_change_inference_are_refused() {
    for (folder, path, value, error) in [
        ("topk", "metadata.sae_lens_version", "7.0.0".into(), "at most version 6"),
        ("topk", "metadata", serde_json::json!([1]), "`metadata` an object"),
        ("topk", "dtype", "float8".into(), "`dtype`"),
        ("topk", "k", 41.into(), "`k`: expected from 1 to the 40 features"),
        ("topk", "k", 2.5.into(), "`k` a whole number"),
        ("topk", "reshape_activations", "heads".into(), "`reshape_activations`"),
        ("standard", "architecture", serde_json::Value::Null, "`architecture` a string"),
        ("standard", "architecture", "temporal".into(), "temporal, which reads other positions"),
        ("standard", "rescale_acts_by_decoder_norm", true.into(), "scaled by the decoder"),
        ("standard", "activation_fn", "tanh-relu".into(), "`activation_fn`"),
        ("standard", "metadata.hook_head_index", 3.into(), "one attention head"),
        ("standard", "metadata.hook_name_out", "blocks.0.hook_mlp_out".into(), "a transcoder"),
        ("batchtopk_unfolded", "rescale_acts_by_decoder_norm", "yes".into(), "true or false"),
        ("legacy_topk", "activation_fn_str", "tanh-relu".into(), "`activation_fn_str`"),
        ("legacy_topk", "activation_fn_kwargs.postact_fn", "x".into(), "activation_fn_kwargs"),
        ("legacy_topk", "k", 4.into(), "`k` 3, as activation_fn_kwargs"),
        ("legacy_topk", "normalize_activations", true.into(), "activation_scaler.json"),
        ("legacy_topk", "architecture", "jumprelu".into(), "of a standard SAE"),
    ] {
        let dir = copied(&testdata("saelens").join(folder));
        edit(dir.path(), "cfg.json", path, value);
        let got = refusal(dir.path(), Format::SaeLens);
        assert!(got.contains(error), "{path}: {got}");
    }
    for (format, file, path, value, error) in [
        (Format::Sparsify, "cfg.json", "transcode", true.into(), "a transcoder"),
        (Format::Sparsify, "cfg.json", "activation", "groupmax".into(), "another selection"),
        (Format::Sparsify, "cfg.json", "num_latents", "40".into(), "`num_latents` a whole number"),
        (Format::DictionaryLearning, "config.json", "trainer.k", 7.into(), "`trainer.k` 6"),
        (Format::DictionaryLearning, "config.json", "buffer.io", "in_and_out".into(), "transcoder"),
        (Format::DictionaryLearning, "config.json", "buffer.layer", 3.into(), "attention head"),
        (Format::DictionaryLearning, "config.json", "trainer", 3.into(), "`trainer` an object"),
    ] {
        let folder = if format == Format::Sparsify { "sparsify/topk" } else { "torch/topk" };
        let dir = copied(&testdata(folder));
        edit(dir.path(), file, path, value);
        let got = refusal(dir.path(), format);
        assert!(got.contains(error), "{path}: {got}");
    }
    let dir = copied(&testdata("saelens").join("topk"));
    let text = "model_kind: cross_layer_transcoder\nscan: x\n";
    std::fs::write(dir.path().join("config.yaml"), text).unwrap();
    assert!(refusal(dir.path(), Format::SaeLens).contains("circuit-tracer"));
}

#[test]
fn damaged_archives_are_refused() {
    let dir = copied(&testdata("torch").join("topk"));
    let path = dir.path().join("ae.pt");
    let whole = std::fs::read(&path).unwrap();
    for n in [0, 3, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..n]).unwrap();
        let error = refusal(dir.path(), Format::DictionaryLearning);
        assert!(error.contains("ae.pt: expected a state dict as torch.save writes it"), "{error}");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        // A flipped bit in an archive is found by its checksums, or lies where it does not matter.
        if let Ok(read) = import(dir.path(), Format::DictionaryLearning) {
            let whole =
                import(&testdata("torch").join("topk"), Format::DictionaryLearning).unwrap().sae;
            for ((name, a), (_, b)) in read.sae.parameters().iter().zip(whole.parameters()) {
                assert!(*a == b, "byte {at} changed {name} unseen");
            }
        }
    }
}

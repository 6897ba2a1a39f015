//! Files of other tools: those they wrote, read to their numbers; ours, read back to the same model.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sae_config::{ArchitectureConfig, KEstimator, Normalization};
use sae_models::{Format, ModelConfig, Origin, Sae, export, import, read_tensors};
use tch::{Kind, Tensor};

use crate::common::{NORMALIZATIONS, architectures, model, rows};

const TOLERANCE: f64 = 1e-5;

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder)
}

/// The largest difference, relative to the largest element or to 1.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let scale = a.abs().max().double_value(&[]).max(1.0);
    (a - b).abs().max().double_value(&[]) / scale
}

/// Features and reconstructions of `x`.
fn forward(sae: &dyn Sae, x: &Tensor) -> (Tensor, Tensor) {
    let encoded = sae.encode(x).unwrap();
    let x_hat = sae.decode(&encoded).unwrap();
    (encoded.features, x_hat)
}

#[test]
fn files_of_saelens_give_its_numbers() {
    for (folder, architecture) in [
        ("batchtopk", "batch_topk"),
        ("batchtopk_training", "batch_topk"),
        ("gated", "gated"),
        ("jumprelu", "jumprelu"),
        ("standard", "standard"),
        ("standard_bdec_input", "standard"),
        ("standard_constant_norm", "standard"),
        ("standard_layer_norm", "standard"),
        ("standard_no_bdec_input", "standard"),
        ("topk", "topk"),
        ("topk_rescaled", "topk"),
    ] {
        let dir = testdata("saelens").join(folder);
        let sae = import(&dir, Format::SaeLens).unwrap();
        assert_eq!(sae.config().architecture.name(), architecture);
        let expected = read_tensors(&dir.join("expected.safetensors")).unwrap();
        let (features, x_hat) = forward(sae.as_ref(), &expected["x"]);
        // With `rescale_acts_by_decoder_norm` its features carry the norms, as ours do.
        let off = difference(&expected["features"], &features);
        assert!(off < TOLERANCE, "{folder}: features off by {off:e}");
        let off = difference(&expected["forward"], &x_hat);
        assert!(off < TOLERANCE, "{folder}: reconstructions off by {off:e}");
    }
}

#[test]
fn files_of_sparsify_give_its_numbers() {
    for folder in ["topk", "expansion"] {
        let dir = testdata("sparsify").join(folder);
        let sae = import(&dir, Format::Sparsify).unwrap();
        let expected = read_tensors(&dir.join("expected.safetensors")).unwrap();
        let (features, x_hat) = forward(sae.as_ref(), &expected["x"]);
        assert!(difference(&expected["features"], &features) < TOLERANCE, "{folder}");
        assert!(difference(&expected["x_hat"], &x_hat) < TOLERANCE, "{folder}");
    }
}

#[test]
fn state_dicts_of_the_published_trainers_give_their_numbers() {
    for (folder, format, architecture) in [
        ("topk", Format::DictionaryLearning, "topk"),
        ("batch_topk", Format::DictionaryLearning, "batch_topk"),
        ("matryoshka_batch_topk", Format::DictionaryLearning, "matryoshka_batch_topk"),
        ("jumprelu", Format::DictionaryLearning, "jumprelu"),
        ("gated", Format::DictionaryLearning, "gated"),
        ("standard", Format::DictionaryLearning, "standard"),
        ("standard_april", Format::DictionaryLearning, "standard"),
        ("softsae_llm_annealed", Format::SoftSae, "soft"),
        ("softsae_clip_annealed", Format::SoftSae, "soft"),
    ] {
        let dir = testdata("torch").join(folder);
        let sae = import(&dir, format).unwrap();
        assert_eq!(sae.config().architecture.name(), architecture);
        let expected = read_tensors(&dir.join("expected.safetensors")).unwrap();
        let (features, x_hat) = forward(sae.as_ref(), &expected["x"]);
        let off = difference(&expected["x_hat"], &x_hat);
        assert!(off < TOLERANCE, "{folder}: reconstructions off by {off:e}");
        let mut want = expected["features"].shallow_clone();
        if folder == "standard_april" {
            // Its loader brings the decoder to unit norm.
            let decoder =
                &read_tensors(&dir.join("decoder.safetensors")).unwrap()["decoder.weight"];
            want *= decoder.norm_scalaropt_dim(2.0, [0i64].as_slice(), false);
        }
        let off = difference(&want, &features);
        assert!(off < TOLERANCE, "{folder}: features off by {off:e}");
        if let Some(k) = expected.get("k") {
            let k_hat = sae.encode(&expected["x"]).unwrap().k_hat.unwrap();
            assert!(difference(k, &k_hat) < TOLERANCE, "{folder}: {k:?} {k_hat:?}");
        }
    }
}

/// A run that goes on has its state dict among others, with weights for scaled activations; one of
/// its tensors is a transposed parameter at an offset.
#[test]
fn files_of_a_run_that_goes_on_are_scaled() {
    let dir = testdata("torch").join("mid_run");
    let sae = import(&dir, Format::DictionaryLearning).unwrap();
    assert_eq!(sae.config().normalization, Normalization::Scale);
    let expected = read_tensors(&dir.join("expected.safetensors")).unwrap();
    let (features, x_hat) = forward(sae.as_ref(), &(&expected["x"] * 2.5));
    assert!(difference(&expected["features"], &features) < TOLERANCE);
    assert!(difference(&expected["x_hat"], &(x_hat / 2.5)) < TOLERANCE);
}

/// Whether a tool has this architecture under this normalisation.
fn has(format: Format, config: &ModelConfig) -> bool {
    let soft = matches!(config.architecture, ArchitectureConfig::Soft(_));
    let by_row = matches!(config.normalization, Normalization::UnitNorm | Normalization::LayerNorm);
    match format {
        Format::SaeLens => true,
        Format::DictionaryLearning => !soft && !by_row,
        Format::Sparsify => matches!(config.architecture, ArchitectureConfig::TopK(_)) && !by_row,
        Format::SoftSae => soft && !by_row,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn what_is_exported_comes_back_as_the_same_model(seed in 0u64..1 << 40, batch in 2i64..20) {
        let x = rows(batch, Kind::Float, seed ^ 1);
        for architecture in architectures() {
            for normalization in NORMALIZATIONS {
                let sae = model(architecture.clone(), normalization, Kind::Float, seed);
                let thresholds = || sae.own_parameters().into_iter().filter(|(n, _)| *n == "threshold");
                thresholds().for_each(|(_, t)| drop(t.shallow_clone().abs_()));
                let before: Vec<Tensor> = sae.parameters().iter().map(|(_, t)| t.copy()).collect();
                for format in [
                    Format::SaeLens,
                    Format::DictionaryLearning,
                    Format::Sparsify,
                    Format::SoftSae,
                ] {
                    let dir = tempfile::tempdir().unwrap();
                    let exported = export(sae.as_ref(), format, &Origin::default(), dir.path());
                    if !has(format, sae.config()) {
                        let error = exported.unwrap_err().to_string();
                        prop_assert!(error.contains("architecture") || error.contains("normalization"), "{}", error);
                        continue;
                    }
                    let exported = exported.unwrap();
                    prop_assert!(exported.files.iter().all(|file| file.exists()));
                    let again = import(dir.path(), format).unwrap();
                    let (features, x_hat) = forward(sae.as_ref(), &x);
                    let (features_again, x_hat_again) = forward(again.as_ref(), &x);
                    let name = sae.config().architecture.name();
                    let off = difference(&features, &features_again);
                    prop_assert!(off < TOLERANCE, "{} as {:?}: features off by {:e}", name, format, off);
                    let off = difference(&x_hat, &x_hat_again);
                    prop_assert!(off < TOLERANCE, "{} as {:?}: x̂ off by {:e}", name, format, off);
                    check_config(sae.config(), again.config(), format)?;
                }
                for (before, (name, after)) in before.iter().zip(sae.parameters()) {
                    prop_assert!(before == after, "{} was changed", name);
                }
            }
        }
    }
}

/// The configuration comes back, but for what the files themselves say otherwise.
fn check_config(
    before: &ModelConfig,
    after: &ModelConfig,
    format: Format,
) -> Result<(), TestCaseError> {
    let mut expected = before.architecture.clone();
    match &mut expected {
        ArchitectureConfig::JumpRelu(c) if format == Format::DictionaryLearning => {
            c.subtract_b_dec = false;
        }
        ArchitectureConfig::Soft(c) => {
            let narrow = matches!(c.k_estimator, KEstimator::Narrow { .. });
            if !(narrow && format == Format::SaeLens) {
                c.k_estimator = KEstimator::Mlp;
            }
        }
        _ => {}
    }
    prop_assert_eq!(&expected, &after.architecture);
    prop_assert_eq!(before.parity, after.parity);
    Ok(())
}

#[test]
fn thresholds_that_a_tool_would_ignore_are_refused() {
    let jumprelu = architectures().into_iter().find(|a| a.name() == "jumprelu").unwrap();
    let sae = model(jumprelu, Normalization::None, Kind::Float, 1);
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::SaeLens, Format::DictionaryLearning] {
        let error = export(sae.as_ref(), format, &Origin::default(), dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("`threshold`: expected none below 0"), "{error}");
    }
}

/// Our configuration adds to what a file says, and does not stand against it.
#[test]
fn a_k_that_was_changed_in_a_file_holds() {
    let sae = model(architectures().remove(0), Normalization::None, Kind::Float, 1);
    let dir = tempfile::tempdir().unwrap();
    export(sae.as_ref(), Format::Sparsify, &Origin::default(), dir.path()).unwrap();
    let path = dir.path().join("cfg.json");
    let mut settings: serde_json::Value = sae_config::read_json(&path).unwrap();
    settings["k"] = 2.into();
    sae_config::write_json(&path, &settings).unwrap();
    let changed = import(dir.path(), Format::Sparsify).unwrap();
    assert_eq!(changed.config().architecture.target_l0(), Some(2.0));
    let (features, _) = forward(changed.as_ref(), &rows(5, Kind::Float, 1));
    let active = features.not_equal(0.0).sum_dim_intlist(1, false, Kind::Int64);
    assert!(active.max().int64_value(&[]) <= 2);
}

#[test]
fn what_a_tool_needs_to_know_of_the_host_is_told() {
    let sae = model(architectures().remove(0), Normalization::None, Kind::Float, 1);
    let origin =
        Origin { host: Some("SmolLM2-135M".into()), hook_point: Some("resid_post.15".into()) };
    let dir = tempfile::tempdir().unwrap();
    let read = |file: &str| -> serde_json::Value {
        sae_config::read_json(&dir.path().join(file)).unwrap()
    };
    export(sae.as_ref(), Format::SaeLens, &origin, dir.path()).unwrap();
    let metadata = &read("cfg.json")["metadata"];
    assert_eq!(metadata["hook_name"], "blocks.15.hook_resid_post");
    assert_eq!(metadata["model_name"], "SmolLM2-135M");
    export(sae.as_ref(), Format::DictionaryLearning, &origin, dir.path()).unwrap();
    let trainer = &read("config.json")["trainer"];
    assert_eq!((&trainer["layer"], &trainer["lm_name"]), (&15.into(), &"SmolLM2-135M".into()));
}

fn copied(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn refusal(dir: &Path, format: Format) -> String {
    import(dir, format).err().expect("a refusal").to_string()
}

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
        error.contains("cfg.json: expected `architecture`") && error.ends_with("got transcoder"),
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
    let error = refusal(dir.path(), Format::SaeLens);
    assert!(error.contains("`threshold`: expected one value"), "{error}");
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
        if let Ok(sae) = import(dir.path(), Format::DictionaryLearning) {
            let whole =
                import(&testdata("torch").join("topk"), Format::DictionaryLearning).unwrap();
            for ((name, a), (_, b)) in sae.parameters().iter().zip(whole.parameters()) {
                assert!(*a == b, "byte {at} changed {name} unseen");
            }
        }
    }
}

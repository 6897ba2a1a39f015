//! Files of other tools: those they wrote, read to their numbers; ours, read back to the same model.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sae_config::{ArchitectureConfig, KEstimator, Normalization};
use sae_models::{Format, Imported, ModelConfig, Origin, Sae, export, import, read_tensors};
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

/// Checks a folder that a tool wrote against what the tool makes of it; the notes of the import.
fn check_numbers(folder: &str, format: Format, architecture: &str, tolerance: f64) -> Vec<String> {
    let dir = testdata(folder);
    let Imported { sae, notes, .. } = import(&dir, format).unwrap();
    assert_eq!(sae.config().architecture.name(), architecture, "{folder}");
    let expected = read_tensors(&dir.join("expected.safetensors")).unwrap();
    let (features, x_hat) = forward(sae.as_ref(), &expected["x"].to_kind(Kind::Float));
    // With `rescale_acts_by_decoder_norm` its features carry the norms, as ours do.
    let off = difference(&expected["features"], &features);
    assert!(off < tolerance, "{folder}: features off by {off:e}");
    let scale = expected["forward"].abs().max().double_value(&[]).min(1.0);
    let off = difference(&expected["forward"], &x_hat) / scale;
    assert!(off < tolerance, "{folder}: reconstructions off by {off:e}");
    assert!(features.not_equal(0.0).any().int64_value(&[]) == 1, "{folder}: no feature is active");
    notes
}

#[test]
fn files_of_saelens_give_its_numbers() {
    for (folder, architecture) in [
        ("batchtopk", "batch_topk"),
        ("batchtopk_fraction", "jumprelu"),
        ("batchtopk_training", "batch_topk"),
        ("batchtopk_unfolded", "batch_topk"),
        ("gated", "gated"),
        ("gated_no_bdec_input", "gated"),
        ("jumprelu", "jumprelu"),
        ("layer_norm_small", "standard"),
        ("standard", "standard"),
        ("standard_bdec_input", "standard"),
        ("standard_constant_norm", "standard"),
        ("standard_layer_norm", "standard"),
        ("standard_no_bdec_input", "standard"),
        ("standard_unfolded", "standard"),
        ("topk", "topk"),
        ("topk_rescaled", "topk"),
        ("topk_rescaled_constant_norm", "topk"),
        ("topk_unfolded", "topk"),
    ] {
        let folder = format!("saelens/{folder}");
        let notes = check_numbers(&folder, Format::SaeLens, architecture, TOLERANCE);
        assert!(notes.is_empty(), "{folder}: {notes:?}");
    }
}

#[test]
fn what_a_user_has_to_know_of_a_file_is_noted() {
    for (folder, architecture, tolerance, notes) in [
        ("jumprelu_no_bdec_input", "jumprelu", TOLERANCE, &["thresholds below 0"][..]),
        ("legacy_topk", "topk", TOLERANCE, &["{\"center_writing_weights\":true}"]),
        // It computes in bf16, of 8 bits.
        ("standard_bf16", "standard", 0.03, &["computes in bfloat16"]),
        ("standard_f64", "standard", TOLERANCE, &["computes in float64"]),
    ] {
        let folder = format!("saelens/{folder}");
        let got = check_numbers(&folder, Format::SaeLens, architecture, tolerance);
        assert_eq!(got.len(), notes.len(), "{folder}: {got:?}");
        for (got, note) in got.iter().zip(notes) {
            assert!(got.contains(note), "{folder}: {got}");
        }
    }
}

#[test]
fn arrays_of_gemma_scope_give_their_numbers() {
    let notes = check_numbers("gemma_scope", Format::GemmaScope, "jumprelu", TOLERANCE);
    assert!(notes[0].contains("`b_dec` is of f64") && notes[1].contains("transcoder"), "{notes:?}");
    let dir = tempfile::tempdir().unwrap();
    let inside = |folder: &str| {
        let to = dir.path().join(folder);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(testdata("gemma_scope").join("params.npz"), to.join("params.npz")).unwrap();
        to
    };
    let folder = inside("gemma-scope-9b-it-res/layer_20/width_16k/average_l0_47");
    let Imported { origin, notes, .. } = import(&folder, Format::GemmaScope).unwrap();
    assert_eq!(origin.host.as_deref(), Some("gemma-2-9b-it"));
    assert_eq!(origin.hook_point.as_deref(), Some("resid_post.20"));
    assert_eq!(notes.len(), 1, "{notes:?}");
    let folder = inside("gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_8");
    assert!(refusal(&folder, Format::GemmaScope).contains("a transcoder"));
    let folder = inside("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6");
    assert!(refusal(&folder, Format::GemmaScope).contains("embeddings"));
}

#[test]
fn files_of_sparsify_give_its_numbers() {
    for folder in ["topk", "expansion"] {
        let dir = testdata("sparsify").join(folder);
        let sae = import(&dir, Format::Sparsify).unwrap().sae;
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
        let sae = import(&dir, format).unwrap().sae;
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
    let sae = import(&dir, Format::DictionaryLearning).unwrap().sae;
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
        Format::GemmaScope => false,
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
                    Format::GemmaScope,
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
                    let again = import(dir.path(), format).unwrap().sae;
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
    let changed = import(dir.path(), Format::Sparsify).unwrap().sae;
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
    assert_eq!(read.config().architecture.name(), "jumprelu", "its thresholds differ");
}

/// The same settings with others, by a dotted path; null removes.
fn edit(dir: &Path, file: &str, path: &str, value: serde_json::Value) {
    let file = dir.join(file);
    let mut settings: serde_json::Value = sae_config::read_json(&file).unwrap();
    let mut at = &mut settings;
    for key in path.split('.') {
        at = &mut at[key];
    }
    *at = value;
    sae_config::write_json(&file, &settings).unwrap();
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

/// Before version 6, features are multiplied by a factor on their way to the decoder.
#[test]
fn a_factor_of_finetuning_is_applied_to_decoded_features() {
    let dir = copied(&testdata("saelens").join("legacy_topk"));
    let x = rows_of(&testdata("saelens").join("legacy_topk"));
    let plain = import(dir.path(), Format::SaeLens).unwrap().sae;
    let weights = dir.path().join("sae_weights.safetensors");
    let mut tensors = read_tensors(&weights).unwrap();
    let factor = Tensor::linspace(0.5, 2.0, 40, (Kind::Float, tch::Device::Cpu));
    tensors.insert("scaling_factor".into(), factor.shallow_clone());
    sae_models::write_tensors(&weights, tensors.iter().map(|(n, t)| (n.as_str(), t))).unwrap();
    let error = refusal(dir.path(), Format::SaeLens);
    assert!(error.contains("`scaling_factor`: expected ones"), "{error}");
    edit(dir.path(), "cfg.json", "finetuning_scaling_factor", true.into());
    let scaled = import(dir.path(), Format::SaeLens).unwrap().sae;
    let ((features, _), (same, x_hat)) =
        (forward(plain.as_ref(), &x), forward(scaled.as_ref(), &x));
    assert_eq!(features, same);
    let expected = plain.decode(&sae_models::Encoded::from(&features * &factor)).unwrap();
    assert!(difference(&expected, &x_hat) < TOLERANCE);
    tensors.remove("scaling_factor");
    sae_models::write_tensors(&weights, tensors.iter().map(|(n, t)| (n.as_str(), t))).unwrap();
    assert!(refusal(dir.path(), Format::SaeLens).contains("no tensor `scaling_factor`"));
}

fn rows_of(dir: &Path) -> Tensor {
    read_tensors(&dir.join("expected.safetensors")).unwrap().remove("x").unwrap()
}

#[test]
fn settings_that_change_inference_are_refused() {
    for (folder, path, value, error) in [
        ("topk", "metadata.sae_lens_version", "7.0.0".into(), "at most version 6"),
        ("topk", "metadata", serde_json::json!([1]), "`metadata` an object"),
        ("topk", "dtype", "float8".into(), "`dtype`"),
        ("topk", "k", 41.into(), "`k`: expected at most the 40 features"),
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
fn an_import_tells_where_the_activations_came_from() {
    let dir = testdata("saelens").join("legacy_topk");
    let origin = import(&dir, Format::SaeLens).unwrap().origin;
    assert_eq!(origin.host.as_deref(), Some("gpt2-small"));
    assert_eq!(origin.hook_point.as_deref(), Some("resid_pre.8"));
    let sae = model(architectures().remove(0), Normalization::None, Kind::Float, 1);
    let origin = Origin { host: Some("SmolLM2".into()), hook_point: Some("attn_out.15".into()) };
    for format in [Format::SaeLens, Format::DictionaryLearning] {
        let dir = tempfile::tempdir().unwrap();
        export(sae.as_ref(), format, &origin, dir.path()).unwrap();
        assert_eq!(import(dir.path(), format).unwrap().origin, origin);
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("layers.10");
    export(sae.as_ref(), Format::Sparsify, &origin, &folder).unwrap();
    let origin = import(&folder, Format::Sparsify).unwrap().origin;
    assert_eq!(origin.hook_point.as_deref(), Some("resid_post.10"));
}

/// k̂'s bounds and rounding are in the settings too, which SAELens reads.
#[test]
fn bounds_of_k_that_were_changed_in_a_file_hold() {
    let soft = architectures().into_iter().find(|a| a.name() == "soft").unwrap();
    let sae = model(soft, Normalization::None, Kind::Float, 1);
    let dir = tempfile::tempdir().unwrap();
    export(sae.as_ref(), Format::SaeLens, &Origin::default(), dir.path()).unwrap();
    edit(dir.path(), "cfg.json", "k_max", 9.0.into());
    edit(dir.path(), "cfg.json", "k_min", 3.0.into());
    edit(dir.path(), "cfg.json", "round_down", true.into());
    let changed = import(dir.path(), Format::SaeLens).unwrap().sae;
    assert_eq!(changed.config().parity, sae_config::Parity::Official);
    let k_hat = changed.encode(&rows(50, Kind::Float, 1)).unwrap().k_hat.unwrap();
    assert!(k_hat.min().double_value(&[]) >= 3.0 && k_hat.max().double_value(&[]) <= 9.0);
}

/// f16 holds at most 65504, and folding needs more digits than it has.
#[test]
fn a_model_of_few_digits_is_folded_in_many_and_what_f32_cannot_hold_is_refused() {
    let normalization = Normalization::Scale;
    let sae = model(architectures().remove(0), normalization, Kind::Half, 1);
    let dir = tempfile::tempdir().unwrap();
    export(sae.as_ref(), Format::Sparsify, &Origin::default(), dir.path()).unwrap();
    let weights = read_tensors(&dir.path().join("sae.safetensors")).unwrap();
    let exact = sae.base().weights.w_enc.to_kind(Kind::Double) / 3.7;
    assert!(difference(&exact.to_kind(Kind::Float), &weights["encoder.weight"]) < 1e-7);

    let sae = model(architectures().remove(0), Normalization::None, Kind::Double, 1);
    let exported = export(sae.as_ref(), Format::SaeLens, &Origin::default(), dir.path()).unwrap();
    assert_eq!(exported.differences, ["weights are f32 there, f64 here"]);
    let _ = sae.base().weights.b_dec.get(2).fill_(1e39);
    for format in [Format::SaeLens, Format::DictionaryLearning, Format::Sparsify] {
        let error = export(sae.as_ref(), format, &Origin::default(), dir.path()).unwrap_err();
        assert!(error.to_string().contains("expected finite values, got 1"), "{error}");
    }
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

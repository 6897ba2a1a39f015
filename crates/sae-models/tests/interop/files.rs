//! Files that other tools wrote, read to their numbers.

use sae_config::Normalization;
use sae_models::{Format, Imported, import, read_tensors};
use tch::{Kind, Tensor};

use super::{TOLERANCE, copied, difference, edit, forward, refusal, rows_of, testdata};

/// Checks a folder that a tool wrote against what the tool makes of it; the notes of the import.
fn check_numbers(folder: &str, format: Format, architecture: &str, tolerance: f64) -> Vec<String> {
    let dir = testdata(folder);
    let Imported { sae, notes, .. } = import(&dir, format).unwrap();
    assert_eq!(sae.config().code.name(), architecture, "{folder}");
    let expected = read_tensors(&dir.join("expected.safetensors")).unwrap();
    let (features, x_hat) = forward(&sae, &expected["x"].to_kind(Kind::Float));
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
        let (features, x_hat) = forward(&sae, &expected["x"]);
        assert!(difference(&expected["features"], &features) < TOLERANCE, "{folder}");
        assert!(difference(&expected["x_hat"], &x_hat) < TOLERANCE, "{folder}");
    }
}

/// Those of its first versions, which chose by magnitude where `signed` said so.
#[test]
fn signed_files_of_sparsify_are_abs_topk() {
    let dir = copied(&testdata("sparsify").join("topk"));
    edit(dir.path(), "cfg.json", "signed", true.into());
    let sae = import(dir.path(), Format::Sparsify).unwrap().sae;
    assert_eq!(sae.config().code.name(), "abs_topk");
    let file = read_tensors(&dir.path().join("sae.safetensors")).unwrap();
    let x = rows_of(dir.path());
    let z = (&x - &file["b_dec"]).matmul(&file["encoder.weight"].tr()) + &file["encoder.bias"];
    let k = sae_config::read_json::<serde_json::Value>(&dir.path().join("cfg.json")).unwrap()["k"]
        .as_i64()
        .unwrap();
    let least = z.abs().topk(k, -1, true, true).0.amin([-1i64].as_slice(), true);
    let expected = &z * z.abs().ge_tensor(&least).to_kind(z.kind());
    let (features, x_hat) = forward(&sae, &x);
    assert!(features.min().double_value(&[]) < 0.0);
    assert!(difference(&expected, &features) < TOLERANCE);
    let rebuilt = expected.matmul(&file["W_dec"]) + &file["b_dec"];
    assert!(difference(&rebuilt, &x_hat) < TOLERANCE);
    edit(dir.path(), "cfg.json", "signed", "yes".into());
    assert!(refusal(dir.path(), Format::Sparsify).contains("`signed` true or false"));
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
        assert_eq!(sae.config().code.name(), architecture);
        let expected = read_tensors(&dir.join("expected.safetensors")).unwrap();
        let (features, x_hat) = forward(&sae, &expected["x"]);
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
    let (features, x_hat) = forward(&sae, &(&expected["x"] * 2.5));
    assert!(difference(&expected["features"], &features) < TOLERANCE);
    assert!(difference(&expected["x_hat"], &(x_hat / 2.5)) < TOLERANCE);
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
    let ((features, _), (same, x_hat)) = (forward(&plain, &x), forward(&scaled, &x));
    assert_eq!(features, same);
    let expected = plain.decode(&sae_models::Encoded::from(&features * &factor)).unwrap();
    assert!(difference(&expected, &x_hat) < TOLERANCE);
    tensors.remove("scaling_factor");
    sae_models::write_tensors(&weights, tensors.iter().map(|(n, t)| (n.as_str(), t))).unwrap();
    assert!(refusal(dir.path(), Format::SaeLens).contains("no tensor `scaling_factor`"));
}

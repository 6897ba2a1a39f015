//! Our models as other tools' files, read back to the same model.

use proptest::prelude::*;
use sae_config::{Code, EstimatorNetwork, Normalization, Rounding, SoftCode};
use sae_models::{Format, ModelConfig, Origin, Role, export, import, read_tensors};
use tch::{Kind, Tensor};

use super::{TOLERANCE, difference, edit, forward, testdata};
use crate::common::{NORMALIZATIONS, codes, model, rows};

/// Whether a tool has this architecture under this normalisation.
fn has(format: Format, config: &ModelConfig) -> bool {
    let soft = matches!(config.code, Code::Soft(_));
    let by_row = matches!(config.normalization, Normalization::UnitNorm | Normalization::LayerNorm);
    let signed = matches!(config.code, Code::AbsTopK { .. });
    match format {
        Format::SaeLens => !signed,
        Format::DictionaryLearning => !signed && !soft && !by_row,
        Format::Sparsify => matches!(config.code, Code::TopK { .. }) && !by_row,
        Format::SoftSae => soft && !by_row,
        Format::GemmaScope => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn what_is_exported_comes_back_as_the_same_model(seed in 0u64..1 << 40, batch in 2i64..20) {
        let x = rows(batch, Kind::Float, seed ^ 1);
        for code in codes() {
            for normalization in NORMALIZATIONS {
                let sae = model(code.clone(), normalization, Kind::Float, seed);
                let thresholds = || sae.parameters().into_iter().filter(|(n, _)| *n == "threshold");
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
                    let exported = export(&sae, format, &Origin::default(), dir.path());
                    if !has(format, sae.config()) {
                        let error = exported.unwrap_err().to_string();
                        prop_assert!(error.contains("architecture") || error.contains("normalization"), "{}", error);
                        continue;
                    }
                    let exported = exported.unwrap();
                    prop_assert!(exported.files.iter().all(|file| file.exists()));
                    let again = import(dir.path(), format).unwrap().sae;
                    let (features, x_hat) = forward(&sae, &x);
                    let (features_again, x_hat_again) = forward(&again, &x);
                    let name = sae.config().code.name();
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
    let mut expected = before.code.clone();
    match &mut expected {
        Code::JumpRelu { subtract_b_dec } if format == Format::DictionaryLearning => {
            *subtract_b_dec = false;
        }
        // The published code has a hidden layer as wide as the dictionary.
        Code::Soft(SoftCode { k_estimator, .. }) => {
            let n = before.n_features;
            let width = if format == Format::SoftSae { n } else { k_estimator.hidden_units(n) };
            *k_estimator = EstimatorNetwork::TwoLayers { hidden_units: width };
        }
        _ => {}
    }
    prop_assert_eq!(&expected, &after.code);
    Ok(())
}

#[test]
fn thresholds_that_a_tool_would_ignore_are_refused() {
    let jumprelu = codes().into_iter().find(|a| a.name() == "jumprelu").unwrap();
    let sae = model(jumprelu, Normalization::None, Kind::Float, 1);
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::SaeLens, Format::DictionaryLearning] {
        let error = export(&sae, format, &Origin::default(), dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("`threshold`: expected none below 0"), "{error}");
    }
}

/// Our configuration adds to what a file says, and does not stand against it.
#[test]
fn a_k_that_was_changed_in_a_file_holds() {
    let sae = model(codes().remove(0), Normalization::None, Kind::Float, 1);
    let dir = tempfile::tempdir().unwrap();
    export(&sae, Format::Sparsify, &Origin::default(), dir.path()).unwrap();
    let path = dir.path().join("cfg.json");
    let mut settings: serde_json::Value = sae_config::read_json(&path).unwrap();
    settings["k"] = 2.into();
    sae_config::write_json(&path, &settings).unwrap();
    let changed = import(dir.path(), Format::Sparsify).unwrap().sae;
    assert_eq!(changed.config().code.k(), Some(2));
    let (features, _) = forward(&changed, &rows(5, Kind::Float, 1));
    let active = features.not_equal(0.0).sum_dim_intlist(1, false, Kind::Int64);
    assert!(active.max().int64_value(&[]) <= 2);
}

#[test]
fn what_a_tool_needs_to_know_of_the_host_is_told() {
    let sae = model(codes().remove(0), Normalization::None, Kind::Float, 1);
    let origin =
        Origin { host: Some("SmolLM2-135M".into()), hook_point: Some("resid_post.15".into()) };
    let dir = tempfile::tempdir().unwrap();
    let read = |file: &str| -> serde_json::Value {
        sae_config::read_json(&dir.path().join(file)).unwrap()
    };
    export(&sae, Format::SaeLens, &origin, dir.path()).unwrap();
    let metadata = &read("cfg.json")["metadata"];
    assert_eq!(metadata["hook_name"], "blocks.15.hook_resid_post");
    assert_eq!(metadata["model_name"], "SmolLM2-135M");
    export(&sae, Format::DictionaryLearning, &origin, dir.path()).unwrap();
    let trainer = &read("config.json")["trainer"];
    assert_eq!((&trainer["layer"], &trainer["lm_name"]), (&15.into(), &"SmolLM2-135M".into()));
}

#[test]
fn an_import_tells_where_the_activations_came_from() {
    let dir = testdata("saelens").join("legacy_topk");
    let origin = import(&dir, Format::SaeLens).unwrap().origin;
    assert_eq!(origin.host.as_deref(), Some("gpt2-small"));
    assert_eq!(origin.hook_point.as_deref(), Some("resid_pre.8"));
    let sae = model(codes().remove(0), Normalization::None, Kind::Float, 1);
    let origin = Origin { host: Some("SmolLM2".into()), hook_point: Some("attn_out.15".into()) };
    for format in [Format::SaeLens, Format::DictionaryLearning] {
        let dir = tempfile::tempdir().unwrap();
        export(&sae, format, &origin, dir.path()).unwrap();
        assert_eq!(import(dir.path(), format).unwrap().origin, origin);
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("layers.10");
    export(&sae, Format::Sparsify, &origin, &folder).unwrap();
    let origin = import(&folder, Format::Sparsify).unwrap().origin;
    assert_eq!(origin.hook_point.as_deref(), Some("resid_post.10"));
}

/// k̂'s bounds and rounding are in the settings too, which SAELens reads.
#[test]
fn bounds_of_k_that_were_changed_in_a_file_hold() {
    let soft = codes().into_iter().find(|a| a.name() == "soft").unwrap();
    let sae = model(soft, Normalization::None, Kind::Float, 1);
    let dir = tempfile::tempdir().unwrap();
    export(&sae, Format::SaeLens, &Origin::default(), dir.path()).unwrap();
    edit(dir.path(), "cfg.json", "k_max", 9.0.into());
    edit(dir.path(), "cfg.json", "k_min", 3.0.into());
    edit(dir.path(), "cfg.json", "round_down", true.into());
    let changed = import(dir.path(), Format::SaeLens).unwrap().sae;
    let Code::Soft(code) = &changed.config().code else { panic!("{:?}", changed.config()) };
    assert_eq!(code.rounding, Rounding::Down);
    let k_hat = changed.encode(&rows(50, Kind::Float, 1)).unwrap().k_hat.unwrap();
    assert!(k_hat.min().double_value(&[]) >= 3.0 && k_hat.max().double_value(&[]) <= 9.0);
}

/// f16 holds at most 65504, and folding needs more digits than it has.
#[test]
fn a_model_of_few_digits_is_folded_in_many_and_what_f32_cannot_hold_is_refused() {
    let normalization = Normalization::Scale;
    let sae = model(codes().remove(0), normalization, Kind::Half, 1);
    let dir = tempfile::tempdir().unwrap();
    export(&sae, Format::Sparsify, &Origin::default(), dir.path()).unwrap();
    let weights = read_tensors(&dir.path().join("sae.safetensors")).unwrap();
    let exact = sae.parameters[Role::EncoderWeight].to_kind(Kind::Double) / 3.7;
    assert!(difference(&exact.to_kind(Kind::Float), &weights["encoder.weight"]) < 1e-7);

    let sae = model(codes().remove(0), Normalization::None, Kind::Double, 1);
    let exported = export(&sae, Format::SaeLens, &Origin::default(), dir.path()).unwrap();
    assert_eq!(exported.differences, ["weights are f32 there, f64 here"]);
    let _ = sae.parameters[Role::DecoderBias].get(2).fill_(1e39);
    for format in [Format::SaeLens, Format::DictionaryLearning, Format::Sparsify] {
        let error = export(&sae, format, &Origin::default(), dir.path()).unwrap_err();
        assert!(error.to_string().contains("expected finite values, got 1"), "{error}");
    }
}

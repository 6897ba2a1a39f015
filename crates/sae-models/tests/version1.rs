//! Files that version 0.1.0 (revision 73dada4) wrote: checkpoints of version 1, exports with its
//! configuration.

use std::path::{Path, PathBuf};

use sae_config::{ArchitectureConfig, Code, EstimatorNetwork, Rounding, SoftCode};
use sae_models::{
    CONFIG_FILE, Format, Sae, checkpoint_hash, import, load_checkpoint, read_tensors,
    save_checkpoint,
};
use tch::{Device, Kind, Tensor};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/version1")
}

fn rows() -> Tensor {
    read_tensors(&testdata().join("rows.safetensors")).unwrap().remove("x").unwrap()
}

/// The code of each model as it was trained.
fn expected(name: &str) -> Code {
    let soft = |k_max, rounding, k_estimator| {
        Code::Soft(SoftCode { k: 3, k_max, k_min: 1.0, alpha: 1e-4, rounding, k_estimator })
    };
    match name {
        "topk" => Code::TopK { k: 3 },
        "abs_topk" => Code::AbsTopK { k: 3 },
        "batch_topk" => Code::BatchTopK { k: 3 },
        "matryoshka_batch_topk" => Code::MatryoshkaBatchTopK { k: 3, group_sizes: vec![4, 16] },
        "soft" => soft(12.0, Rounding::Nearest, EstimatorNetwork::TwoLayers { hidden_units: 20 }),
        "soft_official" => soft(6.0, Rounding::Down, EstimatorNetwork::LowRank { rank: 2 }),
        "jumprelu" => Code::JumpRelu { subtract_b_dec: true },
        "gated" => Code::Gated {},
        "standard" => Code::Standard {},
        "standard_april" => Code::StandardApril {},
        "p_anneal" => Code::PAnneal {},
        other => panic!("{other}"),
    }
}

/// Features are those that the version encoded.
fn check_features(name: &str, sae: &Sae) {
    let codes = read_tensors(&testdata().join(format!("models/{name}/codes.safetensors"))).unwrap();
    let encoded = sae.encode(&rows()).unwrap();
    let mut dense = Tensor::zeros(encoded.features.size(), (Kind::Float, Device::Cpu));
    let counts = codes["indptr"].to_kind(Kind::Int64).diff(1, -1, None::<Tensor>, None::<Tensor>);
    let of_rows = Tensor::arange(counts.size()[0], (Kind::Int64, Device::Cpu))
        .repeat_interleave_self_tensor(&counts, None, None);
    let at = [Some(of_rows), Some(codes["indices"].to_kind(Kind::Int64))];
    let _ = dense.index_put_(&at, &codes["values"], false);
    assert!(dense.ne(0.0).any().int64_value(&[]) == 1, "{name}: no feature is active");
    let off = (&dense - &encoded.features).abs().max().double_value(&[]);
    assert!(off < 1e-5, "{name}: features off by {off:e}");
    let k_hat = codes.get("k_hat").zip(encoded.k_hat.as_ref());
    assert_eq!(k_hat.is_some(), name.starts_with("soft"), "{name}");
    if let Some((want, got)) = k_hat {
        assert!((want - got).abs().max().double_value(&[]) < 1e-4, "{name}: k̂");
    }
}

#[test]
fn checkpoints_of_version_1_are_read_and_written_as_version_2() {
    let mut missing = ArchitectureConfig::NAMES.to_vec();
    for entry in std::fs::read_dir(testdata().join("models")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let sae = load_checkpoint(&folder, Device::Cpu).unwrap();
        assert_eq!(sae.config().code, expected(name));
        missing.retain(|missing| *missing != sae.config().code.name());
        check_features(name, &sae);

        let dir = tempfile::tempdir().unwrap();
        save_checkpoint(&sae, dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(CONFIG_FILE)).unwrap();
        assert!(text.contains("\"version\": 2") && !text.contains("auxk"), "{text}");
        let again = load_checkpoint(dir.path(), Device::Cpu).unwrap();
        assert_eq!(again.config(), sae.config());
        assert_eq!(again.trained_on, sae.trained_on);
        check_features(name, &again);
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// Runs that start from a checkpoint are known by its hash.
#[test]
fn checkpoints_of_version_1_keep_their_hash() {
    for (name, hash) in [
        ("topk", "90503c68451fc4ae0e776d95102c6f30c3986bb2f5a9db9310e7deb10da43d4b"),
        ("soft_official", "a26f0c737e0025f0d2d52de61c72e07459fcf7ebe622669bd0c12da99350561a"),
        ("jumprelu", "7b210a7bbefba859f7815667823c14b0110402d47c3319cf2d8c11dc539971ef"),
    ] {
        assert_eq!(checkpoint_hash(&testdata().join("models").join(name)).unwrap(), hash);
    }
}

#[test]
fn exports_of_before_are_the_models_that_they_were() {
    let low_rank_is_dense = EstimatorNetwork::TwoLayers { hidden_units: 20 };
    for (name, format, code) in [
        ("matryoshka_batch_topk", Format::SaeLens, expected("matryoshka_batch_topk")),
        ("p_anneal", Format::DictionaryLearning, expected("p_anneal")),
        ("soft", Format::SoftSae, expected("soft")),
        (
            "soft_official",
            Format::SaeLens,
            match expected("soft_official") {
                Code::Soft(soft) => Code::Soft(SoftCode { k_estimator: low_rank_is_dense, ..soft }),
                other => other,
            },
        ),
    ] {
        let sae = import(&testdata().join("exports").join(name), format).unwrap().sae;
        assert_eq!(sae.config().code, code);
        check_features(name, &sae);
    }
}

#[test]
fn a_version_with_the_configuration_of_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = testdata().join("models/topk");
    for file in [CONFIG_FILE, "sae.safetensors"] {
        std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    let path = dir.path().join(CONFIG_FILE);
    let good: serde_json::Value = sae_config::read_json(&path).unwrap();
    let refusal = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        sae_config::write_json(&path, &changed).unwrap();
        let error = load_checkpoint(dir.path(), Device::Cpu).expect_err("a refusal").to_string();
        assert!(error.contains(CONFIG_FILE), "{error}");
        error
    };
    let error = refusal(&|manifest| manifest["version"] = 2.into());
    assert!(error.contains("a configuration of version 2, got unknown field"), "{error}");
    let error = refusal(&|manifest| manifest["version"] = 3.into());
    assert!(error.contains("version 1 or 2, got format softsae, version 3"), "{error}");
    let error = refusal(&|manifest| manifest["config"]["architecture"]["kk"] = 1.into());
    assert!(error.contains("unknown field `kk`"), "{error}");
    let error = refusal(&|manifest| manifest["config"]["architecture"]["k"] = 21.into());
    assert!(error.contains("`k`: expected from 1 to the 20 features, got 21"), "{error}");
}

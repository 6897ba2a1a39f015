//! Models whose output is another port than their input.

use proptest::prelude::*;
use sae_config::{Code, Normalization};
use sae_models::{
    Error, InitRng, ModelConfig, Normalizer, Role, Sae, SparseCoder, init_ports, load_checkpoint,
    rebuild, save_checkpoint,
};
use tch::{Device, Kind, Tensor};
use tch_autograd::test_device;

use crate::common::{D_MODEL, N_FEATURES, codes, rows};

const D_OUT: usize = 9;

fn config(code: Code, d_out: usize, normalization: Normalization) -> ModelConfig {
    ModelConfig {
        d_model: D_MODEL,
        d_out: Some(d_out),
        n_features: N_FEATURES,
        normalization,
        code,
    }
}

fn normalizer(normalization: Normalization, d: usize, seed: u64, kind: Kind) -> Normalizer {
    let scale = 1.5 + seed as f64;
    match normalization {
        Normalization::Scale => Normalizer::Scale { scale },
        Normalization::ShiftScale => {
            let shift = InitRng::new(seed).uniform(&[d as i64], 2.0);
            Normalizer::ShiftScale { shift: shift.to_kind(kind).to_device(test_device()), scale }
        }
        _ => Normalizer::None,
    }
}

/// A transcoder whose every tensor has been moved away from its initial value.
fn transcoder(code: Code, normalization: Normalization, kind: Kind, seed: u64) -> Sae {
    let mut rng = InitRng::new(seed);
    let normalizers =
        [(D_MODEL, 1), (D_OUT, 2)].map(|(d, seed)| normalizer(normalization, d, seed, kind));
    let normalizers = (&normalizers[0], Some(&normalizers[1]));
    let config = config(code, D_OUT, normalization);
    let sae = init_ports(config, normalizers, &mut rng, kind, test_device()).unwrap();
    for (_, tensor) in sae.parameters() {
        let noise = rng.uniform(&tensor.size(), 0.3).to_kind(kind).to_device(test_device());
        let _ = tensor.shallow_clone().g_add_(&noise);
    }
    for (_, tensor) in sae.buffers() {
        let _ = tensor.shallow_clone().fill_(0.2);
    }
    sae
}

const NORMALIZATIONS: [Normalization; 3] =
    [Normalization::None, Normalization::Scale, Normalization::ShiftScale];

fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
    a.size() == b.size()
        && (a.to_device(Device::Cpu) - b.to_device(Device::Cpu)).abs().max().double_value(&[])
            <= tolerance
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn decoding_is_in_the_scale_of_the_target(seed in 0u64..1 << 40) {
        let x = rows(5, Kind::Double, seed ^ 1);
        for code in codes() {
            for normalization in NORMALIZATIONS {
                let sae = transcoder(code.clone(), normalization, Kind::Double, seed);
                let encoded = sae.encode(&x).unwrap();
                let all = &sae.parameters;
                let x_hat = encoded.features.mm(&all[Role::DecoderWeight]) + &all[Role::DecoderBias];
                let expected = match sae.output_normalizer() {
                    Normalizer::Scale { scale } => x_hat * *scale,
                    Normalizer::ShiftScale { shift, scale } => x_hat * *scale + shift,
                    _ => x_hat,
                };
                prop_assert!(close(&sae.decode(&encoded).unwrap(), &expected, 1e-9));
                // What is added to every reconstruction is of another port than the input.
                let mut bias = all[Role::DecoderBias].shallow_clone();
                let _ = bias.g_add_scalar_(5.0);
                let again = sae.encode(&x).unwrap();
                prop_assert_eq!(&again.features, &encoded.features);
                prop_assert_eq!(&again.k_hat, &encoded.k_hat);
            }
        }
    }

    #[test]
    fn sparse_codes_are_the_features_that_are_not_zero(seed in 0u64..1 << 40) {
        if test_device() != Device::Cpu {
            return Ok(());
        }
        let mut coder = SparseCoder::default();
        let x = rows(7, Kind::Float, seed ^ 4);
        for code in codes() {
            let sae = transcoder(code, Normalization::ShiftScale, Kind::Float, seed);
            let (sparse, dense) = (coder.encode(&sae, &x).unwrap(), sae.encode(&x).unwrap());
            let mut features = vec![0.0; 7 * N_FEATURES];
            sparse.codes.write_dense(&mut features).unwrap();
            let features = Tensor::from_slice(&features).reshape([7, N_FEATURES as i64]);
            prop_assert!(close(&features, &dense.features, 1e-4));
            let (got, want) = (coder.decode(&sae, &sparse).unwrap(), sae.decode(&dense).unwrap());
            prop_assert!(close(&got, &want, 1e-3));
        }
    }
}

#[test]
fn a_transcoder_comes_back_as_it_was() {
    let x = rows(4, Kind::Float, 3);
    for code in codes() {
        for normalization in NORMALIZATIONS {
            let sae = transcoder(code.clone(), normalization, Kind::Float, 9);
            let dir = tempfile::tempdir().unwrap();
            save_checkpoint(&sae, dir.path()).unwrap();
            let again = load_checkpoint(dir.path(), test_device()).unwrap();
            let copy = rebuild(&sae, sae.config().clone(), Kind::Float, test_device()).unwrap();
            let expected = sae.decode(&sae.encode(&x).unwrap()).unwrap();
            for other in [again, copy] {
                assert_eq!(other.config(), sae.config());
                let x_hat = other.decode(&other.encode(&x).unwrap()).unwrap();
                assert!(close(&x_hat, &expected, 1e-4));
            }
        }
    }
}

#[test]
fn a_model_is_not_made_a_transcoder_by_a_key() {
    let path = |dir: &std::path::Path| dir.join(sae_models::CONFIG_FILE);
    let mut rng = InitRng::new(2);
    let (code, kind) = (Code::TopK { k: 3 }, Kind::Float);
    let sae = ModelConfig { d_out: None, ..config(code.clone(), D_MODEL, Normalization::None) };
    let sae = sae_models::init(sae, &Normalizer::None, &mut rng, kind, test_device()).unwrap();
    let transcoder = transcoder(code, Normalization::None, kind, 4);
    for (model, d_out) in [(sae, Some(D_MODEL)), (transcoder, None)] {
        let dir = tempfile::tempdir().unwrap();
        save_checkpoint(&model, dir.path()).unwrap();
        assert!(load_checkpoint(dir.path(), test_device()).is_ok());
        let text = std::fs::read(path(dir.path())).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
        match d_out {
            Some(d_out) => manifest["config"]["d_out"] = d_out.into(),
            None => drop(manifest["config"].as_object_mut().unwrap().remove("d_out")),
        }
        std::fs::write(path(dir.path()), manifest.to_string()).unwrap();
        let message = load_checkpoint(dir.path(), test_device()).unwrap_err().to_string();
        assert!(message.contains("`d_out` and `trained_on.target`"), "{message}");
    }
}

#[test]
fn encoder_and_decoder_start_apart_from_one_another() {
    for d_out in [D_MODEL, D_OUT] {
        let config = config(codes().remove(0), d_out, Normalization::None);
        let normalizers = (&Normalizer::None, Some(&Normalizer::None));
        let (kind, device) = (Kind::Double, Device::Cpu);
        let sae = init_ports(config, normalizers, &mut InitRng::new(3), kind, device).unwrap();
        let all = &sae.parameters;
        let (w_enc, w_dec) = (&all[Role::EncoderWeight], &all[Role::DecoderWeight]);
        for weight in [w_enc, w_dec] {
            let norms = weight.norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
            assert!((norms - 1.0).abs().max().double_value(&[]) < 1e-12);
        }
        assert_ne!(w_enc, w_dec);
        assert_eq!(w_dec.size(), [N_FEATURES as i64, d_out as i64]);
    }
}

#[test]
fn what_a_transcoder_has_not_is_refused() {
    for normalization in [Normalization::UnitNorm, Normalization::LayerNorm] {
        let config = config(codes().remove(0), D_OUT, normalization);
        let normalizers = (&Normalizer::UnitNorm, Some(&Normalizer::UnitNorm));
        let mut rng = InitRng::new(1);
        let error = init_ports(config, normalizers, &mut rng, Kind::Float, test_device());
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with("`normalization`: expected none, scale or"), "{message}");
    }
    let mut sae = transcoder(codes().remove(0), Normalization::Scale, Kind::Float, 1);
    let error = sae.fold().unwrap_err();
    assert!(matches!(error, Error::NotFoldable { got: "the normalisations of a transcoder" }));
}

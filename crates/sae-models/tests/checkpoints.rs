//! Checkpoints: every architecture comes back as it was; whatever is damaged is refused by name.

use std::path::Path;

use sae_config::Normalization;
use sae_models::{
    CONFIG_FILE, WEIGHTS_FILE, load_checkpoint, read_tensors, save_checkpoint, write_tensors,
};
use tch::{Device, Kind, Tensor};
use tch_autograd::test_device;

use crate::common::{NORMALIZATIONS, codes, model, model_on, rows};

fn refusal(dir: &Path) -> String {
    match load_checkpoint(dir, Device::Cpu) {
        Ok(_) => panic!("loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_model_comes_back_as_it_was() {
    for kind in [Kind::Float, Kind::Double] {
        // What the CPU saves is what the device under test loads.
        let device = test_device();
        let (x, exact) = (rows(4, kind, 3), device == Device::Cpu);
        let on_cpu = |t: &Tensor| t.to_device(Device::Cpu);
        let same = |a: &Tensor, b: &Tensor| {
            let off = (a - on_cpu(b)).abs().max().double_value(&[]);
            let tolerance = if kind == Kind::Double { 1e-11 } else { 1e-4 };
            if exact { off == 0.0 } else { off <= tolerance * a.abs().max().double_value(&[]) }
        };
        for code in codes() {
            for normalization in NORMALIZATIONS {
                let sae = model_on(Device::Cpu, code.clone(), normalization, kind, 9);
                let dir = tempfile::tempdir().unwrap();
                save_checkpoint(&sae, dir.path()).unwrap();
                let again = load_checkpoint(dir.path(), device).unwrap();
                assert_eq!(again.config(), sae.config());
                for ((name, a), (_, b)) in sae.parameters().into_iter().zip(again.parameters()) {
                    assert_eq!(*a, on_cpu(b), "{name}");
                }
                let (a, b) = (sae.encode(&on_cpu(&x)).unwrap(), again.encode(&x).unwrap());
                let what = format!("{} with {normalization:?}", code.name());
                assert!(same(&a.features, &b.features), "{what}: features");
                assert!(same(&sae.decode(&a).unwrap(), &again.decode(&b).unwrap()), "{what}: rows");
            }
        }
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sae = model(codes().remove(2), Normalization::Scale, Kind::Float, 9);
    save_checkpoint(&sae, dir.path()).unwrap();

    let path = dir.path().join(WEIGHTS_FILE);
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    assert!(refusal(dir.path()).contains("expected the file of blake3"));
    std::fs::write(&path, &good[..good.len() - 3]).unwrap();
    assert!(refusal(dir.path()).contains(WEIGHTS_FILE));
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(dir.path()).contains(WEIGHTS_FILE));
    std::fs::write(&path, &good).unwrap();
    std::fs::write(dir.path().join(CONFIG_FILE), "{}").unwrap();
    assert!(refusal(dir.path()).contains(CONFIG_FILE));
}

/// Replaces tensors of a good checkpoint and forges the hash.
fn refusal_of(change: impl FnOnce(&mut std::collections::BTreeMap<String, Tensor>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let sae = model(codes().remove(0), Normalization::Scale, Kind::Float, 9);
    save_checkpoint(&sae, dir.path()).unwrap();
    let (weights, config) = (dir.path().join(WEIGHTS_FILE), dir.path().join(CONFIG_FILE));
    let old = blake3::hash(&std::fs::read(&weights).unwrap()).to_hex().to_string();
    let mut map = read_tensors(&weights).unwrap();
    change(&mut map);
    write_tensors(&weights, map.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
    let new = blake3::hash(&std::fs::read(&weights).unwrap()).to_hex().to_string();
    let text = std::fs::read_to_string(&config).unwrap().replace(&old, &new);
    std::fs::write(&config, text).unwrap();
    refusal(dir.path())
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let zeros = |shape: &[i64], kind| Tensor::zeros(shape, (kind, Device::Cpu));
    let message = refusal_of(|map| drop(map.remove("decoder.bias")));
    assert!(message.ends_with("tensor `decoder.bias`: expected shape [6], got no such tensor"));
    let message = refusal_of(|map| drop(map.insert("extra".into(), zeros(&[1], Kind::Float))));
    assert!(message.ends_with("tensor `extra`: expected only the tensors of topk, got this one"));
    let wrong = zeros(&[6, 24], Kind::Float);
    let message = refusal_of(|map| drop(map.insert("encoder.weight".into(), wrong)));
    assert!(message.ends_with("tensor `encoder.weight`: expected shape [24, 6], got [6, 24]"));
    let wrong = zeros(&[24], Kind::Double);
    let message = refusal_of(|map| drop(map.insert("encoder.bias".into(), wrong)));
    assert!(message.ends_with("tensor `encoder.bias`: expected kind Float, got Double"));
    let nan = zeros(&[24], Kind::Float).fill_(f64::NAN);
    let message = refusal_of(|map| drop(map.insert("encoder.bias".into(), nan)));
    assert!(
        message.ends_with("tensor `encoder.bias`: expected finite values, got 24 that are not")
    );
}

/// Of two tensors of one name readers would take the last, or the first.
#[test]
fn a_name_that_comes_twice_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let of = |name: &str| {
        let header = format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[4,8]}},"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#
        );
        let header = if name == "a" {
            header
        } else {
            header.replace(r#","a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#, "")
        };
        let length = (header.len() as u64).to_le_bytes();
        std::fs::write(&file, [&length[..], header.as_bytes(), &[0; 8]].concat()).unwrap();
        read_tensors(file.path())
    };
    assert_eq!(of("b").unwrap().len(), 2);
    let error = of("a").unwrap_err().to_string();
    assert!(error.contains("the key `a` comes twice"), "{error}");
}

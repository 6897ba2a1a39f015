//! Every key and tensor of every format: known, or refused by name.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::settings::Keys;
use super::{
    Format, TOOLS, dictionary_learning, import, npz, saelens, softsae, sparsify, torch_file,
};
use crate::{read_tensors, write_tensors};

/// An object of settings in a good folder.
struct Object {
    folder: &'static str,
    format: Format,
    file: &'static str,
    /// Keys that lead to it.
    at: &'static [&'static str],
    tables: Vec<&'static Keys>,
}

fn objects() -> Vec<Object> {
    use saelens::keys as lens;
    let object = |folder, format, file, at, tables| Object { folder, format, file, at, tables };
    let of_lens = |folder, at, tables| object(folder, Format::SaeLens, "cfg.json", at, tables);
    let of_torch =
        |at, tables| object("torch/topk", Format::DictionaryLearning, "config.json", at, tables);
    vec![
        of_lens("saelens/topk", &[], vec![&lens::TOP_K, &lens::SETTINGS]),
        of_lens("saelens/gated", &[], vec![&lens::NOT_TOP_K, &lens::SETTINGS]),
        of_lens(
            "saelens/legacy_topk",
            &[],
            vec![&lens::LEGACY, &lens::TOP_K, &lens::SETTINGS, &lens::METADATA],
        ),
        of_lens("saelens/batchtopk", &["metadata"], vec![&lens::METADATA]),
        of_lens(
            "saelens/batchtopk",
            &["metadata", "training_architecture_details"],
            vec![&lens::DETAILS],
        ),
        object(
            "saelens/standard_unfolded",
            Format::SaeLens,
            "activation_scaler.json",
            &[],
            vec![&saelens::SCALER_KEYS],
        ),
        object("sparsify/topk", Format::Sparsify, "cfg.json", &[], vec![&sparsify::KEYS]),
        of_torch(&[], vec![&dictionary_learning::keys::FILE]),
        of_torch(&["trainer"], vec![&dictionary_learning::keys::TRAINER]),
        of_torch(&["buffer"], vec![&dictionary_learning::keys::BUFFER]),
        object(
            "torch/softsae_llm_annealed",
            Format::SoftSae,
            "config.json",
            &["trainer"],
            vec![&dictionary_learning::keys::TRAINER, &softsae::TRAINER],
        ),
    ]
}

fn copied(folder: &str) -> tempfile::TempDir {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

impl Object {
    /// What an import says with a key set to a value; nothing where it succeeds.
    fn with(&self, key: &str, value: Value) -> Option<String> {
        let dir = copied(self.folder);
        let path = dir.path().join(self.file);
        let mut settings: Value = sae_config::read_json(&path).unwrap();
        let mut at = &mut settings;
        for key in self.at {
            at = &mut at[*key];
        }
        at[key] = value;
        sae_config::write_json(&path, &settings).unwrap();
        import(dir.path(), self.format).err().map(|e| e.to_string())
    }

    fn is_known(&self, key: &str) -> bool {
        self.tables.iter().any(|table| {
            table.read.contains(&key)
                || table.neutral.iter().any(|(name, ..)| *name == key)
                || table.ignored.iter().any(|(_, keys)| keys.contains(&key))
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn unknown_keys_are_refused_by_name(key in "[a-z]{1,8}(_[a-z]{1,8}){0,3}", value in any::<bool>()) {
        for object in objects().iter().filter(|object| !object.is_known(&key)) {
            for value in [json!(value), Value::Null, json!({ "a": 1 })] {
                let error = object.with(&key, value).expect("a refusal");
                let full = object.at.iter().copied().chain([key.as_str()]);
                let named = format!("`{}`", full.collect::<Vec<_>>().join("."));
                prop_assert!(error.contains(&named) && error.contains(object.file), "{}", error);
            }
        }
    }
}

#[test]
fn neutral_keys_are_accepted_with_their_values_alone() {
    for object in objects() {
        for (key, values, _) in object.tables.iter().flat_map(|table| table.neutral) {
            let is_read = object.tables.iter().any(|table| table.read.contains(key));
            if is_read {
                continue;
            }
            for value in *values {
                let value = serde_json::from_str(value).unwrap();
                assert_eq!(object.with(key, value), None, "{key}");
            }
            for other in [json!(true), json!(3), json!("other"), json!([]), json!({ "a": 1 })] {
                let error = object.with(key, other.clone()).expect("a refusal");
                assert!(error.contains(key) && error.contains(&other.to_string()), "{error}");
            }
        }
    }
}

#[test]
fn ignored_keys_may_have_any_value() {
    for object in objects() {
        for (why, keys) in object.tables.iter().flat_map(|table| table.ignored) {
            assert!(!why.is_empty());
            for key in *keys {
                assert_eq!(object.with(key, json!({ "a": [1, null] })), None, "{key}");
            }
        }
    }
}

#[test]
fn no_key_is_in_a_table_twice() {
    for object in objects() {
        for table in object.tables {
            let mut all: Vec<&str> = table.read.to_vec();
            all.extend(table.neutral.iter().map(|(key, ..)| *key));
            all.extend(table.ignored.iter().flat_map(|(_, keys)| keys.iter().copied()));
            let n = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(n, all.len(), "{}", object.file);
        }
    }
}

/// Writes arrays as NumPy does.
fn write_npz(path: &Path, arrays: &BTreeMap<String, Tensor>, method: CompressionMethod) {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, array) in arrays {
        archive.start_file(format!("{name}.npy"), options).unwrap();
        let sizes: String = array.size().iter().map(|n| format!("{n}, ")).collect();
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}\n");
        archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
        archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(header.as_bytes()).unwrap();
        let flat = array.contiguous().flatten(0, -1);
        let mut bytes = vec![0; flat.numel() * 4];
        flat.copy_data_u8(&mut bytes, flat.numel());
        archive.write_all(&bytes).unwrap();
    }
    std::fs::write(path, archive.finish().unwrap().into_inner()).unwrap();
}

fn floats(path: &Path) -> BTreeMap<String, Tensor> {
    let arrays = npz::read(path).unwrap().into_iter();
    arrays.map(|(name, array)| (name, array.to_kind(Kind::Float))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn unknown_tensors_are_refused_by_name(name in "[A-Z]_[a-z]{1,8}", size in 0i64..3) {
        let extra = Tensor::zeros(vec![2; size as usize], (Kind::Float, Device::Cpu));
        for (folder, format) in [
            ("saelens/topk", Format::SaeLens),
            ("saelens/legacy_topk", Format::SaeLens),
            ("sparsify/topk", Format::Sparsify),
            ("torch/topk", Format::DictionaryLearning),
            ("torch/matryoshka_batch_topk", Format::DictionaryLearning),
            ("torch/softsae_clip_annealed", Format::SoftSae),
            ("gemma_scope", Format::GemmaScope),
        ] {
            let dir = copied(folder);
            let at = |file: &str| dir.path().join(file);
            match format {
                Format::SaeLens | Format::Sparsify => {
                    let file = if format == Format::SaeLens { "sae_weights" } else { "sae" };
                    let path = at(&format!("{file}.safetensors"));
                    let mut tensors = read_tensors(&path).unwrap();
                    tensors.insert(name.clone(), extra.shallow_clone());
                    write_tensors(&path, tensors.iter().map(|(n, t)| (n.as_str(), t))).unwrap();
                }
                Format::DictionaryLearning | Format::SoftSae => {
                    let mut tensors = torch_file::read(&at("ae.pt")).unwrap().tensors;
                    tensors.insert(name.clone(), extra.shallow_clone());
                    let tensors: Vec<_> =
                        tensors.iter().map(|(n, t)| (n.as_str(), t.shallow_clone())).collect();
                    torch_file::write(&at("ae.pt"), &tensors).unwrap();
                }
                Format::GemmaScope => {
                    let mut arrays = floats(&at("params.npz"));
                    arrays.insert(name.clone(), extra.shallow_clone());
                    write_npz(&at("params.npz"), &arrays, CompressionMethod::Deflated);
                }
            }
            let error = import(dir.path(), format).err().expect("a refusal").to_string();
            prop_assert!(error.contains(&format!("`{name}`")), "{}: {}", folder, error);
        }
    }
}

#[test]
fn every_array_of_gemma_scope_is_needed_and_stored_is_as_deflated() {
    let dir = copied("gemma_scope");
    let path = dir.path().join("params.npz");
    let arrays = floats(&path);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        write_npz(&path, &arrays, method);
        for (name, array) in floats(&path) {
            assert_eq!(arrays[&name], array);
        }
    }
    for name in arrays.keys() {
        let mut fewer: BTreeMap<_, _> =
            arrays.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
        fewer.remove(name);
        write_npz(&path, &fewer, CompressionMethod::Stored);
        let error = import(dir.path(), Format::GemmaScope).err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn what_inflates_beyond_measure_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("params.npz");
    let zeros = Tensor::zeros([17, 1 << 20], (Kind::Float, Device::Cpu));
    write_npz(&path, &BTreeMap::from([("W_enc".into(), zeros)]), CompressionMethod::Deflated);
    let error = import(dir.path(), Format::GemmaScope).err().unwrap().to_string();
    assert!(error.contains("`W_enc.npy` of 7130") && error.contains("weights are not"), "{error}");
}

/// The file of a run that goes on, with an entry beside its state dict.
#[test]
fn entries_beside_a_state_dict_are_known_or_refused() {
    let dict = |key: &str, value: &[u8]| {
        let text = |text: &str| [&[0x8c, text.len() as u8][..], text.as_bytes()].concat();
        let ae = [text("ae"), b"}".to_vec()].concat();
        [b"\x80\x02}(".to_vec(), ae, text(key), value.to_vec(), b"u.".to_vec()].concat()
    };
    let dir = copied("torch/topk");
    let read_as = |pickle: &[u8], order: &[u8]| {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, bytes) in [("ae/data.pkl", pickle), ("ae/byteorder", order)] {
            archive.start_file(name, options).unwrap();
            archive.write_all(bytes).unwrap();
        }
        let path = dir.path().join("ae.pt");
        std::fs::write(&path, archive.finish().unwrap().into_inner()).unwrap();
        torch_file::read(&path).map(|dict| dict.norm_factor).map_err(|e| e.to_string())
    };
    let read = |pickle: &[u8]| read_as(pickle, b"little");
    assert!(read_as(&dict("step", b"N"), b"big").unwrap_err().contains("little-endian"));
    assert_eq!(read(&dict("norm_factor", b"N")), Ok(None));
    assert_eq!(read(&dict("norm_factor", b"K\x02")), Ok(Some(2.0)));
    assert!(read(&dict("norm_factor", b"\x88")).unwrap_err().contains("`norm_factor`"));
    assert_eq!(read(&dict("step", b"K\x02")), Ok(None));
    assert!(read(&dict("ema", b"}")).unwrap_err().contains("\"ema\""));
}

#[test]
fn the_table_of_tools_has_every_architecture() {
    assert_eq!(TOOLS.map(|(name, _)| name), sae_config::ArchitectureConfig::NAMES);
}

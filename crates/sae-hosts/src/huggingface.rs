//! A folder as Hugging Face lays it out: `config.json`, `model.safetensors` (or shards with an
//! index) and, for language models, `tokenizer.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use crate::config::HostConfig;
use crate::tokenizer::HostTokenizer;
use crate::weights::TensorSource;
use crate::{Error, Result};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: &str = "tokenizer.json";

/// Opens a folder: its settings, weights, and tokenizer if it has one.
pub(crate) fn open(
    folder: &Path,
) -> Result<(HostConfig, Box<dyn TensorSource>, Option<HostTokenizer>)> {
    let config = HostConfig::read(&folder.join("config.json"))?;
    // Settings that are read from GGUF files have it; those of transformers do not.
    if config.has("rope_factors") {
        return Err(config.wrong("rope_factors", "no such key in this model", "it in the file"));
    }
    // transformers adds such weights to those of the folder.
    let adapter = folder.join("adapter_config.json");
    if adapter.exists() {
        let expected = "no adapter (merge it into the weights: `merge_and_unload` of PEFT)";
        return Err(Error::file(folder, "adapter_config.json", expected, "the file"));
    }
    let tokenizer = folder.join(TOKENIZER);
    let tokenizer = tokenizer.exists().then(|| HostTokenizer::read(&tokenizer)).transpose()?;
    Ok((config, Box::new(SafetensorsFolder::open(folder)?), tokenizer))
}

/// The files of a folder that hold weights.
pub(crate) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(match WeightFiles::find(folder)? {
        WeightFiles::Single(path) => vec![path],
        WeightFiles::Shards { names, .. } => {
            let names: BTreeSet<&String> = names.values().collect();
            names.into_iter().map(|name| folder.join(name)).collect()
        }
    })
}

/// Where transformers looks for weights: one file, then shards, whatever else there is.
enum WeightFiles {
    Single(PathBuf),
    Shards {
        index: PathBuf,
        /// The file of each tensor.
        names: BTreeMap<String, String>,
    },
}

impl WeightFiles {
    fn find(folder: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let single = folder.join(WEIGHTS);
        if single.exists() {
            return Ok(Self::Single(single));
        }
        let index = folder.join(INDEX);
        if !index.exists() {
            return Err(no_weights(folder));
        }
        let text = std::fs::read(&index).map_err(Error::io(&index))?;
        let Index { weight_map: names } = sae_config::json_from_slice(&text).map_err(|error| {
            Error::file(&index, "top level", "an object with `weight_map`", error)
        })?;
        for name in names.values() {
            if Path::new(name).components().count() != 1 {
                return Err(Error::file(&index, "weight_map", "file names without folders", name));
            }
        }
        Ok(Self::Shards { index, names })
    }
}

/// What there is instead of weights that can be read.
fn no_weights(folder: &Path) -> Error {
    let expected = format!("`{WEIGHTS}`, or shards with `{INDEX}`");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            [".bin", ".safetensors", ".pth", ".pt", ".h5", ".msgpack"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .collect();
    names.sort();
    let got = if names.iter().any(|name| name.starts_with("pytorch_model")) {
        format!(
            "{}; convert with: python3 -c \"import glob, torch; from safetensors.torch import \
             save_file; save_file({{k: v.clone().contiguous() for f in \
             glob.glob('pytorch_model*.bin') for k, v in torch.load(f, map_location='cpu', \
             weights_only=True).items()}}, '{WEIGHTS}')\"",
            names.join(", ")
        )
    } else if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Error::file(folder, "weights", expected, got)
}

/// The tensors of one or more safetensors files.
struct SafetensorsFolder {
    folder: PathBuf,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<u64>,
    /// From the start of the file.
    offset: u64,
    n_bytes: usize,
}

impl SafetensorsFolder {
    fn open(folder: &Path) -> Result<Self> {
        let mut opened =
            Self { folder: folder.to_path_buf(), files: Vec::new(), tensors: BTreeMap::new() };
        match WeightFiles::find(folder)? {
            WeightFiles::Single(path) => opened.add(path, |_| Ok(()))?,
            WeightFiles::Shards { index, names } => {
                let files: BTreeSet<&String> = names.values().collect();
                for file in files {
                    // Each tensor is in the file that the index names, and there alone.
                    opened.add(folder.join(file), |name| match names.get(name) {
                        Some(named) if named == file => Ok(()),
                        named => {
                            let expected = named.map_or("no such tensor", String::as_str);
                            Err(Error::file(&index, format!("`{name}`"), file, expected))
                        }
                    })?;
                }
                let absent = names.keys().find(|name| !opened.tensors.contains_key(*name));
                if let Some(name) = absent {
                    let expected = format!("it in `{}`", names[name]);
                    return Err(Error::file(&index, format!("`{name}`"), expected, "none"));
                }
            }
        }
        Ok(opened)
    }

    /// The tensors of another file, each after `check` of its name.
    fn add(&mut self, path: PathBuf, check: impl Fn(&str) -> Result<()>) -> Result<()> {
        let file = File::open(&path).map_err(Error::io(&path))?;
        let (metadata, data) = read_header(&file, &path)?;
        for (name, info) in metadata.tensors() {
            check(&name)?;
            let (start, end) = info.data_offsets;
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.iter().map(|size| *size as u64).collect(),
                offset: data + start as u64,
                n_bytes: end - start,
            };
            self.tensors.insert(name, entry);
        }
        self.files.push((path, file));
        Ok(())
    }
}

/// The header of a safetensors file and the offset of its data; checked against the file's size.
fn read_header(file: &File, path: &Path) -> Result<(Metadata, u64)> {
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut size = [0; 8];
    let truncated =
        |wanted: u64| Error::file(path, "size", format!("at least {wanted} bytes"), length);
    if length < 8 {
        return Err(truncated(8));
    }
    file.read_exact_at(&mut size, 0).map_err(Error::io(path))?;
    let data = u64::from_le_bytes(size).saturating_add(8);
    if data > length {
        return Err(truncated(data));
    }
    let mut header = vec![0; (data - 8) as usize];
    file.read_exact_at(&mut header, 8).map_err(Error::io(path))?;
    let metadata: Metadata = sae_config::json_from_slice(&header)
        .map_err(|error| Error::file(path, "header", "a safetensors header", error))?;
    let expected = data.saturating_add(metadata.data_len() as u64);
    if expected == length {
        Ok((metadata, data))
    } else {
        Err(Error::file(path, "size", format!("{expected} bytes"), length))
    }
}

impl TensorSource for SafetensorsFolder {
    fn path(&self) -> &Path {
        // One file is named itself, several by their folder.
        if let [(path, _)] = self.files.as_slice() { path } else { &self.folder }
    }

    fn stored_names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.tensors.get(name).map(|entry| entry.shape.clone())
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let wrong =
            |expected, got| Error::file(self.path(), format!("tensor `{name}`"), expected, got);
        let entry = self.tensors.get(name).ok_or_else(|| wrong("it in the file", "none".into()))?;
        let (path, file) = &self.files[entry.file];
        let mut bytes = vec![0; entry.n_bytes];
        file.read_exact_at(&mut bytes, entry.offset).map_err(Error::io(path))?;
        match entry.dtype {
            Dtype::F32 => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::F16 => {
                Ok(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect())
            }
            Dtype::BF16 => {
                Ok(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect())
            }
            other => Err(wrong("F32, F16 or BF16", format!("{other:?}"))),
        }
    }
}

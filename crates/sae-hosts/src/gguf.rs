//! GGUF, the file format of llama.cpp: read-only, every length checked before use.

mod dequantize;
mod header;
mod k_quants;
mod keys;
mod model;
mod sentencepiece;
mod tensors;
mod tokenizer;
mod value;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) use model::open;
pub use value::{GgufArray, GgufValue};

use crate::{Error, Result};
use dequantize::TensorType;

/// An open GGUF file: its metadata, and its tensors read on demand.
///
/// The file is opened read-only and its tensors are read by position. Opening checks every length,
/// offset and shape against the file's size, so that a truncated or corrupt file is an error here.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: File,
    metadata: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, TensorInfo>,
}

/// Where a tensor lies in the file.
#[derive(Debug, Clone)]
struct TensorInfo {
    /// Rows first: the reverse of the order in the file.
    shape: Vec<u64>,
    kind: TensorType,
    /// From the start of the file.
    offset: u64,
    n_bytes: u64,
}

impl GgufFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::File`], which names the field, if it is not
    /// GGUF version 2 or 3, truncated, inconsistent, or holds a tensor type that is not read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let (metadata, tensors) = header::read(BufReader::new(&file), length, path)?;
        Ok(Self { path: path.to_path_buf(), file, metadata, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a metadata key.
    pub fn value(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// The names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, rows first.
    pub fn shape(&self, name: &str) -> Option<&[u64]> {
        self.tensors.get(name).map(|info| info.shape.as_slice())
    }

    /// The weights of a tensor, dequantised, in row-major order.
    ///
    /// Quantised weights are the f32 product of scale and integer, then plus the offset: two
    /// roundings, as ggml computes them without fused multiply-add.
    ///
    /// # Errors
    /// [`Error::File`] if there is no such tensor; [`Error::Io`] if the file shrank since.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::file(&self.path, name, "a tensor of this name", "none"))?;
        let n_bytes = usize::try_from(info.n_bytes)
            .map_err(|_| Error::file(&self.path, name, "a size in memory", info.n_bytes))?;
        let mut bytes = vec![0; n_bytes];
        self.file.read_exact_at(&mut bytes, info.offset).map_err(Error::io(&self.path))?;
        Ok(info.kind.dequantize(&bytes))
    }
}

impl TensorInfo {
    /// Checks a tensor's entry against the size of the data section that starts at `data_start`.
    fn check(
        path: &Path,
        name: &str,
        mut shape: Vec<u64>,
        kind: u32,
        offset: u64,
        alignment: u64,
        data: std::ops::Range<u64>,
    ) -> Result<Self> {
        let wrong = |expected: &str, got: &dyn std::fmt::Display| {
            Error::file(path, format!("tensor `{name}`"), expected, got)
        };
        let kind = TensorType::from_id(kind)
            .ok_or_else(|| wrong(&format!("a type of {}", TensorType::known()), &kind))?;
        if !offset.is_multiple_of(alignment) {
            return Err(wrong(&format!("an offset of a multiple of {alignment}"), &offset));
        }
        if shape.contains(&0) {
            return Err(wrong("sizes above 0", &format!("{shape:?}")));
        }
        let block = kind.block_weights();
        let row = shape.first().copied().unwrap_or(1);
        if !row.is_multiple_of(block) {
            return Err(wrong(&format!("rows of a multiple of {block} weights"), &row));
        }
        let n_bytes = shape
            .iter()
            .try_fold(1_u64, |product, size| product.checked_mul(*size))
            .and_then(|weights| (weights / block).checked_mul(kind.block_bytes()))
            .ok_or_else(|| wrong("a size of less than 2^64 bytes", &format!("{shape:?}")))?;
        let room = (data.end - data.start).saturating_sub(offset);
        if n_bytes > room {
            return Err(wrong(
                &format!("{n_bytes} bytes at offset {offset} of the data"),
                &format!("{room} bytes"),
            ));
        }
        shape.reverse();
        Ok(Self { shape, kind, offset: data.start + offset, n_bytes })
    }
}

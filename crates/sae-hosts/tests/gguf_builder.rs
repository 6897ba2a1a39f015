//! Writes GGUF files for tests.

use sae_hosts::{HostModel, Result};
use tch::{Device, Tensor};
use tempfile::NamedTempFile;

/// A file under construction; keys and tensors are written in the order they are added.
#[derive(Clone, Default)]
pub(crate) struct GgufBuilder {
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

impl GgufBuilder {
    pub(crate) fn string(self, key: &str, value: &str) -> Self {
        self.key(key, 8, text(value))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, 4, value.to_le_bytes().to_vec())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.key(key, 6, value.to_le_bytes().to_vec())
    }

    pub(crate) fn bool(self, key: &str, value: bool) -> Self {
        self.key(key, 7, vec![value.into()])
    }

    pub(crate) fn f32s(self, key: &str, values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 6, values.len(), bytes)
    }

    pub(crate) fn strings(self, key: &str, values: &[impl AsRef<str>]) -> Self {
        let bytes = values.iter().flat_map(|value| text(value.as_ref())).collect();
        self.array(key, 8, values.len(), bytes)
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 5, values.len(), bytes)
    }

    /// A tensor of F32; `shape` has rows first.
    pub(crate) fn f32_tensor(self, name: &str, shape: &[u64], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, shape, 0, &bytes)
    }

    /// A tensor of F32 with the values and shape of another.
    pub(crate) fn copy_of(self, name: &str, tensor: &Tensor) -> Self {
        let values: Vec<f32> = tensor.reshape([-1]).try_into().unwrap();
        let shape: Vec<u64> = tensor.size().iter().map(|size| *size as u64).collect();
        self.f32_tensor(name, &shape, &values)
    }

    /// A tensor of any type number.
    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], kind: u32, bytes: &[u8]) -> Self {
        let shape = shape.iter().rev().copied().collect();
        self.tensors.push((name.to_owned(), shape, kind, bytes.to_vec()));
        self
    }

    /// The shape, rows first, and values of a tensor of F32.
    pub(crate) fn f32_values(&self, name: &str) -> (Vec<u64>, Vec<f32>) {
        let (_, shape, _, bytes) = self.tensors.iter().find(|(known, ..)| known == name).unwrap();
        let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (shape.iter().rev().copied().collect(), values)
    }

    /// The same file without a key or tensor.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.keys.retain(|(key, _)| key != name);
        self.tensors.retain(|(tensor, ..)| tensor != name);
        self
    }

    pub(crate) fn load(&self) -> Result<HostModel> {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.build()).unwrap();
        HostModel::load(file.path(), Device::Cpu)
    }

    /// What is wrong with the file, without its random path.
    pub(crate) fn message(&self) -> String {
        let error = self.load().expect_err("the file is refused").to_string();
        error.split_once(": ").expect("the file is named").1.to_owned()
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            out.extend(text(key));
            out.extend(value);
        }
        let mut offset = 0_u64;
        for (name, shape, kind, bytes) in &self.tensors {
            out.extend(text(name));
            out.extend((shape.len() as u32).to_le_bytes());
            out.extend(shape.iter().flat_map(|size| size.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (bytes.len() as u64).next_multiple_of(32);
        }
        for (.., bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
    }

    fn key(mut self, key: &str, kind: u32, value: Vec<u8>) -> Self {
        self.keys.push((key.to_owned(), [kind.to_le_bytes().to_vec(), value].concat()));
        self
    }

    fn array(self, key: &str, element: u32, length: usize, bytes: Vec<u8>) -> Self {
        let head = [element.to_le_bytes().to_vec(), (length as u64).to_le_bytes().to_vec()];
        self.key(key, 9, [head.concat(), bytes].concat())
    }
}

fn text(value: &str) -> Vec<u8> {
    [(value.len() as u64).to_le_bytes().as_slice(), value.as_bytes()].concat()
}

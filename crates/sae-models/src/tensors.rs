//! Named tensors: checked when taken, read from and written to safetensors files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Tensors by name, from which a model takes those it needs.
#[derive(Debug)]
pub struct Tensors {
    map: BTreeMap<String, Tensor>,
    kind: Kind,
    device: Device,
}

impl Tensors {
    /// Tensors of a model of this `kind` on this `device`.
    #[must_use]
    pub fn new(map: BTreeMap<String, Tensor>, kind: Kind, device: Device) -> Self {
        Self { map, kind, device }
    }

    /// Takes a tensor of the model's kind, on its device.
    ///
    /// # Errors
    /// An absent tensor, another shape, another kind, or values that are not finite.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = self.take_raw(name, shape)?;
        if tensor.kind() != self.kind {
            let expected = format!("{:?}", self.kind);
            return Err(Error::Kind { name: name.into(), expected, got: tensor.kind() });
        }
        Ok(tensor.to_device(self.device))
    }

    /// The constant that activations are divided by, kept in f64.
    pub(crate) fn take_scale(&mut self, name: &str) -> Result<f64> {
        let scale = self.take_raw(name, &[])?.double_value(&[]);
        if scale > 0.0 {
            Ok(scale)
        } else {
            let expected = "more than 0";
            Err(sae_config::Error::value(name, expected, scale).into())
        }
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Error::UnexpectedTensor`] for the first tensor left.
    pub fn finish(self, architecture: &'static str) -> Result<()> {
        match self.map.into_keys().next() {
            Some(name) => Err(Error::UnexpectedTensor { name, architecture }),
            None => Ok(()),
        }
    }

    fn take_raw(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = self
            .map
            .remove(name)
            .ok_or_else(|| Error::MissingTensor { name: name.into(), expected: shape.to_vec() })?;
        if tensor.size() != shape {
            let expected = format!("{shape:?}");
            return Err(Error::Shape { name: name.into(), expected, got: tensor.size() });
        }
        let count = tensor.isfinite().logical_not().sum(Kind::Int64).int64_value(&[]);
        if count > 0 {
            return Err(Error::NotFinite { name: name.into(), count });
        }
        Ok(tensor)
    }
}

/// Reads all tensors of a safetensors file.
///
/// # Errors
/// A file that cannot be read or is not safetensors, by name.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    parse_tensors(path, &std::fs::read(path).map_err(|e| io(path, e))?)
}

/// Reads all tensors of the file that [`write_tensors`] gave this `hash` of.
///
/// # Errors
/// As [`read_tensors`]; a file of another hash.
pub fn read_tensors_of_hash(path: &Path, hash: &str) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(|e| io(path, e))?;
    let got = blake3::hash(&bytes).to_hex().to_string();
    if got != hash {
        let expected = format!("the file of blake3 {hash}");
        return Err(Error::Format { path: path.into(), expected, got: format!("blake3 {got}") });
    }
    parse_tensors(path, &bytes)
}

fn parse_tensors(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let bad = |got: String| Error::Format {
        path: path.into(),
        expected: "a safetensors file".into(),
        got,
    };
    let file = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
    check_names(bytes).map_err(bad)?;
    let mut map = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = kind_of(view.dtype())
            .ok_or_else(|| bad(format!("tensor `{name}` of {:?}", view.dtype())))?;
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        map.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?);
    }
    Ok(map)
}

/// Refuses the header of a file that names a tensor twice, of which the crate `safetensors` takes the last.
fn check_names(bytes: &[u8]) -> std::result::Result<(), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Ok(()) };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let header = &rest[..length.min(rest.len())];
    sae_config::json_from_slice::<serde_json::Value>(header).map(drop).map_err(|e| e.to_string())
}

/// Writes tensors to a safetensors file (to a temporary file, synced, then renamed) and returns
/// the blake3 of it. No more than a piece of a tensor is copied at a time.
///
/// # Errors
/// A file that cannot be written, by name.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<String> {
    let with_type = |(name, tensor): (&'a str, &'a Tensor)| {
        let kind = tensor.kind();
        let dtype = dtype_of(kind).ok_or_else(|| Error::Kind {
            name: name.into(),
            expected: "a float or i64 kind".into(),
            got: kind,
        })?;
        Ok((name, tensor, dtype))
    };
    let mut tensors = tensors.into_iter().map(with_type).collect::<Result<Vec<_>>>()?;
    // Wide elements first, so that all are aligned.
    tensors.sort_by(|(a, _, a_type), (b, _, b_type)| b_type.cmp(a_type).then(a.cmp(b)));
    let header = header(path, &tensors)?;
    let mut file = AtomicWriteFile::open(path).map_err(|e| io(path, e))?;
    let mut hasher = blake3::Hasher::new();
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        file.write_all(bytes).map_err(|e| io(path, e))
    };
    write(&(header.len() as u64).to_le_bytes())?;
    write(&header)?;
    let mut bytes = Vec::new();
    for (_, tensor, _) in tensors {
        for piece in tensor.detach().contiguous().flatten(0, -1).split(PIECE, 0) {
            bytes.resize(piece.numel() * piece.kind().elt_size_in_bytes(), 0);
            piece.to_device(Device::Cpu).f_copy_data_u8(&mut bytes, piece.numel())?;
            write(&bytes)?;
        }
    }
    file.commit().map_err(|e| io(path, e))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The header of a file of these tensors, which follow each other in it.
fn header(path: &Path, tensors: &[(&str, &Tensor, Dtype)]) -> Result<Vec<u8>> {
    let bad = |got: String| Error::Format {
        path: path.into(),
        expected: "tensors that safetensors can hold".into(),
        got,
    };
    let mut end = 0;
    let infos = tensors.iter().map(|&(name, tensor, dtype)| {
        let start = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        (name.to_owned(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    let metadata = Metadata::new(None, infos.collect()).map_err(|e| bad(e.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| bad(e.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

pub(crate) fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

/// Elements that are copied at a time when a file is written.
const PIECE: i64 = 1 << 20;

const KINDS: [(Dtype, Kind); 6] = [
    (Dtype::F64, Kind::Double),
    (Dtype::F32, Kind::Float),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
];

fn kind_of(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(d, _)| *d == dtype).map(|(_, kind)| *kind)
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(_, k)| *k == kind).map(|(dtype, _)| *dtype)
}

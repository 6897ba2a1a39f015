//! Files that `torch.save` writes of state dicts: a zip archive with a pickle and a file a storage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;

use tch::{Device, Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::files::{check_finite, write_file};
use super::pickle::{self, StoredTensor, Value};
use crate::tensors::io;
use crate::{Error, Result};

/// The largest pickle that is read; those of state dicts are a few kB.
const MAX_PICKLE: u64 = 1 << 20;

/// The most tensors of a state dict.
const MAX_TENSORS: usize = 64;

/// torch aligns storages to this.
const ALIGNMENT: u16 = 64;

/// What the file of a run that goes on has beside its state dict: the step, the state of the
/// optimiser and a copy of `config.json` do not change the model.
const RUN: [&str; 5] = ["ae", "norm_factor", "step", "optimizer", "config"];

/// Kinds of tensors and the classes of their storages.
const STORAGES: [(Kind, &str); 6] = [
    (Kind::Float, "FloatStorage"),
    (Kind::Double, "DoubleStorage"),
    (Kind::Half, "HalfStorage"),
    (Kind::BFloat16, "BFloat16Storage"),
    (Kind::Int64, "LongStorage"),
    (Kind::Int, "IntStorage"),
];

/// A state dict and, in the file of a run that goes on, what stands beside it.
#[derive(Debug)]
pub(super) struct StateDict {
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// `norm_factor`, where the state dict is the entry `ae` of a dictionary.
    pub(super) norm_factor: Option<f64>,
}

/// Reads a state dict, or the one under `ae`.
///
/// # Errors
/// A file that is not such an archive, or a tensor that it does not hold; by name.
pub(super) fn read(path: &Path) -> Result<StateDict> {
    let bad = |got: String| Error::Format {
        path: path.into(),
        expected: "a state dict as torch.save writes it".into(),
        got,
    };
    let file = File::open(path).map_err(|e| io(path, e))?;
    let mut archive = ZipArchive::new(file).map_err(|e| bad(e.to_string()))?;
    let name = archive.file_names().find(|name| name.ends_with("/data.pkl"));
    let name = name.ok_or_else(|| bad("an archive without data.pkl".into()))?.to_owned();
    let prefix = name.trim_end_matches("data.pkl").to_owned();
    let bytes = entry(&mut archive, &name, MAX_PICKLE).map_err(&bad)?;
    let root = pickle::read(&bytes).map_err(|e| bad(format!("a pickle with {e}")))?;
    match entry(&mut archive, &format!("{prefix}byteorder"), MAX_PICKLE) {
        Ok(order) if order != b"little" => {
            return Err(bad("numbers that are not little-endian".into()));
        }
        _ => {}
    }
    let (dict, norm_factor) = match root.get("ae") {
        Some(inner) => (inner.clone(), run(&root).map_err(&bad)?),
        None => (root, None),
    };
    let entries = dict.entries().ok_or_else(|| bad("another object".into()))?;
    if entries.len() > MAX_TENSORS {
        return Err(bad(format!("{} entries, more than {MAX_TENSORS}", entries.len())));
    }
    let mut tensors = BTreeMap::new();
    for (key, value) in entries {
        let (Value::Text(key), Value::Tensor(tensor)) = (key, value) else {
            return Err(bad(format!("{key:?} that is no named tensor")));
        };
        let tensor = stored(&mut archive, &prefix, tensor)
            .map_err(|e| bad(format!("tensor `{key}` with {e}")))?;
        tensors.insert((**key).to_owned(), tensor);
    }
    Ok(StateDict { tensors, norm_factor })
}

/// `norm_factor` of the file of a run that goes on; refuses what such a file does not have.
fn run(root: &Value) -> Result<Option<f64>, String> {
    for (key, _) in root.entries().unwrap_or_default() {
        match key {
            Value::Text(key) if RUN.contains(&&**key) => {}
            other => return Err(format!("{other:?} beside `ae`")),
        }
    }
    match root.get("norm_factor") {
        None | Some(Value::None) => Ok(None),
        Some(Value::Float(x)) => Ok(Some(*x)),
        Some(Value::Int(n)) => Ok(Some(*n as f64)),
        Some(other) => Err(format!("{other:?} as `norm_factor`")),
    }
}

/// A file of the archive, which is not compressed, of at most `limit` bytes.
fn entry(archive: &mut ZipArchive<File>, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let mut file = archive.by_name(name).map_err(|e| format!("`{name}`: {e}"))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(format!("`{name}` compressed, as torch never writes it"));
    }
    if file.size() > limit {
        return Err(format!("`{name}` of more than {limit} bytes"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| format!("`{name}`: {e}"))?;
    Ok(bytes)
}

/// The tensor that views a storage of the archive.
fn stored(
    archive: &mut ZipArchive<File>,
    prefix: &str,
    tensor: &StoredTensor,
) -> Result<Tensor, String> {
    let StoredTensor { storage, offset, size, stride } = tensor;
    let class = storage.class.trim_start_matches("torch.");
    let (kind, _) = STORAGES
        .iter()
        .find(|(_, name)| *name == class)
        .ok_or_else(|| format!("elements of {class}"))?;
    let bytes = entry(archive, &format!("{prefix}data/{}", storage.key), u64::MAX)?;
    let n = bytes.len() / kind.elt_size_in_bytes();
    let odd = || format!("size {size:?}, stride {stride:?} and offset {offset} in {n} elements");
    let mut last = Some(*offset);
    for (size, stride) in size.iter().zip(stride) {
        let fits = *size > 0 && *stride >= 0;
        last = last.filter(|_| fits).and_then(|l| (size - 1).checked_mul(*stride)?.checked_add(l));
    }
    let numel = size.iter().try_fold(1_i64, |numel, n| numel.checked_mul(*n));
    let fits = *offset >= 0 && size.len() == stride.len() && numel.is_some_and(|m| m <= n as i64);
    if !fits || last.and_then(|l| usize::try_from(l).ok()).is_none_or(|l| l >= n) {
        return Err(odd());
    }
    let whole = Tensor::f_from_data_size(&bytes, &[n as i64], *kind).map_err(|e| e.to_string())?;
    let view = whole.f_as_strided(size, stride, Some(*offset)).map_err(|e| e.to_string())?;
    Ok(view.contiguous())
}

/// Writes a state dict that `torch.load(path, weights_only=True)` reads.
///
/// # Errors
/// A file that cannot be written, or a tensor with values that are not finite, by name.
pub(super) fn write(path: &Path, tensors: &[(&str, Tensor)]) -> Result<()> {
    check_finite(tensors.iter().map(|(name, tensor)| (*name, tensor)))?;
    let bad = |e: zip::result::ZipError| io(path, e.into());
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT);
    let mut add = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("ae/{name}"), options).map_err(bad)?;
        archive.write_all(bytes).map_err(|e| io(path, e))
    };
    add("data.pkl", &state_dict(tensors)?)?;
    add("byteorder", b"little")?;
    for (i, (_, tensor)) in tensors.iter().enumerate() {
        let flat = tensor.detach().to_device(Device::Cpu).contiguous().flatten(0, -1);
        let mut bytes = vec![0; flat.numel() * flat.kind().elt_size_in_bytes()];
        flat.f_copy_data_u8(&mut bytes, flat.numel())?;
        add(&format!("data/{i}"), &bytes)?;
    }
    add("version", b"3\n")?;
    let bytes = archive.finish().map_err(bad)?.into_inner();
    write_file(path, &bytes)
}

/// The pickle of a dictionary of tensors, whose storages are named by their number.
fn state_dict(tensors: &[(&str, Tensor)]) -> Result<Vec<u8>> {
    let mut out = b"\x80\x02}(".to_vec();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let (_, class) =
            STORAGES.iter().find(|(kind, _)| *kind == tensor.kind()).ok_or_else(|| {
                Error::Kind {
                    name: (*name).into(),
                    expected: "a kind that torch files hold here".into(),
                    got: tensor.kind(),
                }
            })?;
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{class}\n").bytes());
        text(&mut out, &i.to_string());
        text(&mut out, "cpu");
        int(&mut out, tensor.numel() as i64);
        out.extend(b"tQK\x00(");
        tensor.size().iter().for_each(|n| int(&mut out, *n));
        out.extend(b"t(");
        tensor.contiguous().stride().iter().for_each(|n| int(&mut out, *n));
        // No gradient, no hooks.
        out.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    Ok(out)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn int(out: &mut Vec<u8>, n: i64) {
    out.extend([0x8a, 8]);
    out.extend(n.to_le_bytes());
}

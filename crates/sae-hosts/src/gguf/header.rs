//! Reads the header of a GGUF file: metadata, then the entry of each tensor.
//!
//! The input is untrusted: a length is compared with the bytes that are left in the file before
//! memory is reserved for it, and maps and arrays grow only as their bytes are read.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::TensorInfo;
use super::value::{GgufArray, GgufValue, ValueType};
use crate::{Error, Result};

const MAGIC: [u8; 4] = *b"GGUF";
/// Version 3 added files of the other byte order, which are refused; little-endian ones are alike.
const VERSIONS: [u32; 2] = [2, 3];
const DEFAULT_ALIGNMENT: u64 = 32;
/// The format's own limit (`GGML_MAX_DIMS`).
const MAX_DIMENSIONS: u32 = 4;

/// The metadata and the tensor entries of a file of `length` bytes.
pub(super) fn read(
    input: impl Read,
    length: u64,
    path: &Path,
) -> Result<(BTreeMap<String, GgufValue>, BTreeMap<String, TensorInfo>)> {
    let mut reader = Reader { input, left: length, path };
    let magic = reader.array::<4>("magic")?;
    if magic != MAGIC {
        return Err(Error::file(path, "magic", "GGUF", magic.escape_ascii()));
    }
    let version = reader.u32("version")?;
    if !VERSIONS.contains(&version) {
        return Err(Error::file(path, "version", "2 or 3", version));
    }
    let n_tensors = reader.u64("tensor count")?;
    let n_keys = reader.u64("metadata count")?;

    let mut metadata = BTreeMap::new();
    for _ in 0..n_keys {
        let key = reader.string("metadata key")?;
        let value = reader.value(&key)?;
        if metadata.contains_key(&key) {
            return Err(Error::file(path, key, "one value", "a second one"));
        }
        metadata.insert(key, value);
    }

    let mut entries = BTreeMap::new();
    for _ in 0..n_tensors {
        let name = reader.string("tensor name")?;
        let entry = reader.tensor_entry(&name)?;
        if entries.contains_key(&name) {
            return Err(Error::file(path, name, "one tensor", "a second one"));
        }
        entries.insert(name, entry);
    }

    let alignment = alignment(&metadata, path)?;
    let header = length - reader.left;
    let start = header.checked_next_multiple_of(alignment).unwrap_or(u64::MAX).min(length);
    let tensors = entries
        .into_iter()
        .map(|(name, (shape, kind, offset))| {
            let info =
                TensorInfo::check(path, &name, shape, kind, offset, alignment, start..length)?;
            Ok((name, info))
        })
        .collect::<Result<_>>()?;
    Ok((metadata, tensors))
}

fn alignment(metadata: &BTreeMap<String, GgufValue>, path: &Path) -> Result<u64> {
    const KEY: &str = "general.alignment";
    match metadata.get(KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(value) => value
            .as_u64()
            .filter(|value| value.is_power_of_two())
            .ok_or_else(|| Error::file(path, KEY, "a power of two", value)),
    }
}

/// A reader that knows how many bytes the file has left.
struct Reader<'a, R> {
    input: R,
    left: u64,
    path: &'a Path,
}

impl<R: Read> Reader<'_, R> {
    /// Takes `wanted` bytes off the count, or says that the file is too short.
    fn claim(&mut self, wanted: u64, field: &str) -> Result<usize> {
        match (self.left.checked_sub(wanted), usize::try_from(wanted)) {
            (Some(left), Ok(size)) => {
                self.left = left;
                Ok(size)
            }
            _ => Err(Error::file(
                self.path,
                field,
                format!("{wanted} more bytes"),
                format!("the end of the file after {}", self.left),
            )),
        }
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        self.claim(N as u64, field)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(Error::io(self.path))?;
        Ok(bytes)
    }

    /// Appends `wanted` bytes to `out`.
    fn append(&mut self, out: &mut Vec<u8>, wanted: u64, field: &str) -> Result<()> {
        let size = self.claim(wanted, field)?;
        let start = out.len();
        out.resize(start + size, 0);
        self.input.read_exact(&mut out[start..]).map_err(Error::io(self.path))
    }

    fn u32(&mut self, field: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    fn string(&mut self, field: &str) -> Result<String> {
        let length = self.u64(field)?;
        let mut bytes = Vec::new();
        self.append(&mut bytes, length, field)?;
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::file(self.path, field, "UTF-8 text", format!("an invalid byte at {at}"))
        })
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType> {
        let id = self.u32(key)?;
        ValueType::from_id(id)
            .ok_or_else(|| Error::file(self.path, key, "a value type from 0 to 12", id))
    }

    fn value(&mut self, key: &str) -> Result<GgufValue> {
        use GgufValue::{Float, Signed, Unsigned};
        Ok(match self.value_type(key)? {
            ValueType::U8 => Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            ValueType::U16 => Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            ValueType::U32 => Unsigned(self.u32(key)?.into()),
            ValueType::U64 => Unsigned(self.u64(key)?),
            ValueType::I8 => Signed(i8::from_le_bytes(self.array(key)?).into()),
            ValueType::I16 => Signed(i16::from_le_bytes(self.array(key)?).into()),
            ValueType::I32 => Signed(i32::from_le_bytes(self.array(key)?).into()),
            ValueType::I64 => Signed(i64::from_le_bytes(self.array(key)?)),
            ValueType::F32 => Float(f32::from_le_bytes(self.array(key)?).into()),
            ValueType::F64 => Float(f64::from_le_bytes(self.array(key)?)),
            ValueType::Bool => match self.array(key)? {
                [0] => GgufValue::Bool(false),
                [1] => GgufValue::Bool(true),
                [byte] => return Err(Error::file(self.path, key, "a truth value 0 or 1", byte)),
            },
            ValueType::String => GgufValue::String(self.string(key)?),
            ValueType::Array => GgufValue::Array(self.value_array(key)?),
        })
    }

    fn value_array(&mut self, key: &str) -> Result<GgufArray> {
        let element = self.value_type(key)?;
        let length = self.u64(key)?;
        let mut bytes = Vec::new();
        match (element, element.size()) {
            (_, Some(size)) => {
                let total = length.saturating_mul(size);
                self.append(&mut bytes, total, key)?;
            }
            (ValueType::String, None) => {
                for _ in 0..length {
                    let text = self.string(key)?;
                    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
            (_, None) => {
                return Err(Error::file(self.path, key, "an array of plain values", "nested ones"));
            }
        }
        Ok(GgufArray { element, length, bytes })
    }

    /// A tensor's shape as stored, type number and offset.
    fn tensor_entry(&mut self, name: &str) -> Result<(Vec<u64>, u32, u64)> {
        let n_dimensions = self.u32(name)?;
        if n_dimensions > MAX_DIMENSIONS {
            let expected = format!("at most {MAX_DIMENSIONS} dimensions");
            return Err(Error::file(self.path, name, expected, n_dimensions));
        }
        let shape = (0..n_dimensions).map(|_| self.u64(name)).collect::<Result<_>>()?;
        Ok((shape, self.u32(name)?, self.u64(name)?))
    }
}

//! The layout of a native shard: a safetensors file whose first bytes hold a header of fixed length.
//!
//! Tensors in order: `activations [n, d_model]`, or, of a compressed store, zstd frames of them and
//! padding as bytes `[n_bytes]`, and `frames` u64, where each frame ends; `scale [n]` f32, of int8
//! only; `checksum [n]` u32, the CRC-32 of the bytes of each row of activations and of its scale;
//! `token_id [n]`, `document [n]`, `position [n]` u32.

use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};

use crate::compression::{Frames, MAX_FRAME_BYTES};
use crate::safetensors_header::{Entry, Header};
use crate::store::to_usize;
use crate::{Dtype, Error, Result};

/// Bytes before the activations: the length field and the header, padded with spaces.
pub(crate) const DATA_OFFSET: u64 = 1024;

/// The u32 columns at the end, in order.
pub(crate) const COLUMNS: [&str; 4] = ["checksum", "token_id", "document", "position"];

/// How all shards of a store hold rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowFormat {
    pub(crate) d_model: usize,
    pub(crate) dtype: Dtype,
    pub(crate) frames: Option<Frames>,
}

impl RowFormat {
    /// Bytes of a row of activations, without its scale.
    fn row_bytes(self) -> Option<u64> {
        (self.d_model as u64).checked_mul(self.dtype.size() as u64)
    }

    /// Whether a frame, if there are any, has a row and not too many bytes.
    pub(crate) fn has_frames_in_bounds(self) -> bool {
        let Some(Frames { rows, .. }) = self.frames else { return true };
        let bytes = self.row_bytes().and_then(|row| row.checked_mul(rows));
        rows > 0 && bytes.is_some_and(|bytes| bytes <= MAX_FRAME_BYTES)
    }

    const fn is_scaled(self) -> bool {
        matches!(self.dtype, Dtype::Int8)
    }

    /// Bytes of a row beside its activations.
    const fn column_bytes(self) -> u64 {
        4 * (COLUMNS.len() as u64 + self.is_scaled() as u64)
    }

    const fn n_frames(self, n_rows: u64) -> u64 {
        match self.frames {
            Some(frames) => n_rows.div_ceil(frames.rows),
            None => 0,
        }
    }
}

/// Where things are in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    format: RowFormat,
    n_rows: u64,
    /// Bytes of a row of activations as they are read.
    row_bytes: u64,
    /// Bytes of the tensor of activations.
    data_bytes: u64,
}

impl Layout {
    /// The layout of `n_rows` rows that are not compressed, or none if its size does not fit 64 bits.
    pub(crate) fn new(n_rows: u64, format: RowFormat) -> Option<Self> {
        let row_bytes = format.row_bytes()?;
        let data_bytes = row_bytes.checked_mul(n_rows)?;
        let columns = format.column_bytes().checked_mul(n_rows)?;
        data_bytes.checked_add(columns)?.checked_add(DATA_OFFSET)?;
        Some(Self { format, n_rows, row_bytes, data_bytes })
    }

    /// That of rows which take `data_bytes` when compressed.
    pub(crate) fn compressed(n_rows: u64, format: RowFormat, data_bytes: u64) -> Option<Self> {
        let columns = format.column_bytes().checked_mul(n_rows)?;
        let index = format.n_frames(n_rows).checked_mul(8)?;
        data_bytes.checked_add(columns)?.checked_add(index)?.checked_add(DATA_OFFSET)?;
        Some(Self { data_bytes, ..Self::new(n_rows, format)? })
    }

    /// That of a file of `n_bytes`, which are checked where the rows decide them.
    pub(crate) fn of_file(n_rows: u64, format: RowFormat, n_bytes: u64) -> Option<Self> {
        if format.frames.is_none() {
            return Self::new(n_rows, format);
        }
        let beside = Self::compressed(n_rows, format, 0)?.n_bytes();
        let data_bytes = n_bytes.saturating_sub(beside) / 8 * 8;
        Self::compressed(n_rows, format, data_bytes)
    }

    pub(crate) const fn format(&self) -> RowFormat {
        self.format
    }

    pub(crate) const fn n_rows(&self) -> u64 {
        self.n_rows
    }

    pub(crate) const fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    pub(crate) const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    pub(crate) const fn n_frames(&self) -> u64 {
        self.format.n_frames(self.n_rows)
    }

    /// Where a row is that is not compressed.
    pub(crate) const fn row_offset(&self, row: u64) -> u64 {
        DATA_OFFSET + row * self.row_bytes
    }

    /// Where the ends of frames are, and all else that follows the activations.
    pub(crate) const fn index_offset(&self) -> u64 {
        DATA_OFFSET + self.data_bytes
    }

    pub(crate) const fn scale_offset(&self, row: u64) -> u64 {
        self.index_offset() + 8 * self.n_frames() + 4 * row
    }

    /// Where entry `row` of the column numbered as in [`COLUMNS`] is.
    pub(crate) const fn column_offset(&self, column: usize, row: u64) -> u64 {
        let before = column as u64 + self.format.is_scaled() as u64;
        self.scale_offset(before * self.n_rows + row)
    }

    pub(crate) const fn n_bytes(&self) -> u64 {
        self.column_offset(COLUMNS.len(), 0)
    }

    /// The bytes before the activations.
    pub(crate) fn header(&self, path: &Path) -> Result<Vec<u8>> {
        let text = Metadata::new(None, self.tensors(path)?)
            .map_err(|e| e.to_string())
            .and_then(|metadata| serde_json::to_vec(&metadata).map_err(|e| e.to_string()))
            .map_err(|e| Error::format(path, "a safetensors header", e))?;
        let mut bytes = (DATA_OFFSET - 8).to_le_bytes().to_vec();
        bytes.extend_from_slice(&text);
        assert!(bytes.len() as u64 <= DATA_OFFSET, "seven tensors fit the header");
        bytes.resize(to_usize(DATA_OFFSET), b' ');
        Ok(bytes)
    }

    /// Checks that the first [`DATA_OFFSET`] bytes of a shard are the header of this layout.
    pub(crate) fn check_header(&self, bytes: &[u8], path: &Path) -> Result<()> {
        let (len, text) = bytes.split_at(8);
        if len != (DATA_OFFSET - 8).to_le_bytes() {
            let expected = format!("a safetensors header of {} bytes", DATA_OFFSET - 8);
            return Err(Error::format(path, expected, "another length"));
        }
        let found: Header = serde_json::from_slice(text)
            .map_err(|e| Error::format(path, "a safetensors header", e))?;
        let wanted = self.tensors(path)?;
        for (name, wanted) in &wanted {
            let wanted = Entry {
                dtype: wanted.dtype.to_string(),
                shape: wanted.shape.iter().map(|&n| n as u64).collect(),
                data_offsets: [wanted.data_offsets.0 as u64, wanted.data_offsets.1 as u64],
            };
            let got = found.tensors.iter().find(|(found, _)| found == name).map(|(_, entry)| entry);
            if got != Some(&wanted) {
                let expected = format!("tensor {name} as {wanted:?}");
                return Err(Error::format(path, expected, format!("{got:?}")));
            }
        }
        let unknown = found.tensors.iter().find(|(name, _)| wanted.iter().all(|(w, _)| w != name));
        match unknown {
            Some((name, _)) => Err(Error::format(path, "the tensors of a shard only", name)),
            None if found.has_metadata => {
                Err(Error::format(path, "the tensors of a shard only", "__metadata__"))
            }
            None => Ok(()),
        }
    }

    fn tensors(&self, path: &Path) -> Result<Vec<(String, TensorInfo)>> {
        let size = |n: u64| {
            usize::try_from(n).map_err(|_| Error::format(path, "a shard that fits memory", n))
        };
        let n_rows = size(self.n_rows)?;
        let mut tensors = Vec::new();
        let mut end = 0;
        let mut add = |name: &str, dtype, shape: Vec<usize>, n_bytes: u64| -> Result<()> {
            let data_offsets = (end, end + size(n_bytes)?);
            end = data_offsets.1;
            tensors.push((name.to_owned(), TensorInfo { dtype, shape, data_offsets }));
            Ok(())
        };
        let (data_bytes, n_frames) = (self.data_bytes, self.n_frames());
        match self.format.frames {
            None => {
                let shape = vec![n_rows, self.format.d_model];
                add("activations", safetensors_dtype(self.format.dtype), shape, data_bytes)?;
            }
            Some(_) => {
                let shape = vec![size(data_bytes)?];
                add("activations", safetensors::Dtype::U8, shape, data_bytes)?;
                add("frames", safetensors::Dtype::U64, vec![size(n_frames)?], 8 * n_frames)?;
            }
        }
        if self.format.is_scaled() {
            add("scale", safetensors::Dtype::F32, vec![n_rows], 4 * self.n_rows)?;
        }
        for name in COLUMNS {
            add(name, safetensors::Dtype::U32, vec![n_rows], 4 * self.n_rows)?;
        }
        Ok(tensors)
    }
}

/// The CRC-32 of the bytes of a row of activations and of its scale.
pub(crate) fn checksum(row: &[u8], scale: Option<f32>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(row);
    if let Some(scale) = scale {
        hasher.update(&scale.to_le_bytes());
    }
    hasher.finalize()
}

const fn safetensors_dtype(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::Int8 => safetensors::Dtype::I8,
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::BF16 => safetensors::Dtype::BF16,
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F64 => safetensors::Dtype::F64,
    }
}

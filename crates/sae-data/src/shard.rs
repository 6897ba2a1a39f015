//! The layout of a native shard: a safetensors file whose first bytes hold a header of fixed length.
//!
//! Tensors in order: `activations [n, d_model]`; `checksum [n]` u32, the CRC-32 of the bytes of
//! each row of activations; `token_id [n]`, `document [n]`, `position [n]` u32.

use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};

use crate::safetensors_header::{Entry, Header};
use crate::store::to_usize;
use crate::{Dtype, Error, Result};

/// Bytes before the activations: the length field and the header, padded with spaces.
pub(crate) const DATA_OFFSET: u64 = 1024;

/// The u32 columns after the activations, in order.
pub(crate) const COLUMNS: [&str; 4] = ["checksum", "token_id", "document", "position"];

/// Where things are in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) n_rows: u64,
    pub(crate) row_bytes: u64,
}

impl Layout {
    /// The layout of `n_rows` rows, or none if its size does not fit 64 bits.
    pub(crate) fn new(n_rows: u64, d_model: usize, dtype: Dtype) -> Option<Self> {
        let row_bytes = (d_model as u64).checked_mul(dtype.size() as u64)?;
        let layout = Self { n_rows, row_bytes };
        let per_row = row_bytes.checked_add(4 * COLUMNS.len() as u64)?;
        per_row.checked_mul(n_rows)?.checked_add(DATA_OFFSET)?;
        Some(layout)
    }

    pub(crate) const fn row_offset(&self, row: u64) -> u64 {
        DATA_OFFSET + row * self.row_bytes
    }

    /// Where entry `row` of the column numbered as in [`COLUMNS`] is.
    pub(crate) const fn column_offset(&self, column: usize, row: u64) -> u64 {
        self.row_offset(self.n_rows) + 4 * (column as u64 * self.n_rows + row)
    }

    pub(crate) const fn n_bytes(&self) -> u64 {
        self.column_offset(COLUMNS.len(), 0)
    }

    /// The bytes before the activations.
    pub(crate) fn header(&self, d_model: usize, dtype: Dtype, path: &Path) -> Result<Vec<u8>> {
        let text = Metadata::new(None, self.tensors(d_model, dtype, path)?)
            .map_err(|e| e.to_string())
            .and_then(|metadata| serde_json::to_vec(&metadata).map_err(|e| e.to_string()))
            .map_err(|e| Error::format(path, "a safetensors header", e))?;
        let mut bytes = (DATA_OFFSET - 8).to_le_bytes().to_vec();
        bytes.extend_from_slice(&text);
        assert!(bytes.len() as u64 <= DATA_OFFSET, "five tensors fit the header");
        bytes.resize(to_usize(DATA_OFFSET), b' ');
        Ok(bytes)
    }

    /// Checks that the first [`DATA_OFFSET`] bytes of a shard are the header of this layout.
    pub(crate) fn check_header(
        &self,
        bytes: &[u8],
        d_model: usize,
        dtype: Dtype,
        path: &Path,
    ) -> Result<()> {
        let (len, text) = bytes.split_at(8);
        if len != (DATA_OFFSET - 8).to_le_bytes() {
            let expected = format!("a safetensors header of {} bytes", DATA_OFFSET - 8);
            return Err(Error::format(path, expected, "another length"));
        }
        let found: Header = serde_json::from_slice(text)
            .map_err(|e| Error::format(path, "a safetensors header", e))?;
        let wanted = self.tensors(d_model, dtype, path)?;
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

    fn tensors(
        &self,
        d_model: usize,
        dtype: Dtype,
        path: &Path,
    ) -> Result<Vec<(String, TensorInfo)>> {
        let size = |n: u64| {
            usize::try_from(n).map_err(|_| Error::format(path, "a shard that fits memory", n))
        };
        let n_rows = size(self.n_rows)?;
        let activations = TensorInfo {
            dtype: safetensors_dtype(dtype),
            shape: vec![n_rows, d_model],
            data_offsets: (0, size(self.column_offset(0, 0) - DATA_OFFSET)?),
        };
        let mut tensors = vec![("activations".to_owned(), activations)];
        for (i, name) in COLUMNS.iter().enumerate() {
            let begin = size(self.column_offset(i, 0) - DATA_OFFSET)?;
            let data_offsets = (begin, begin + 4 * n_rows);
            let info =
                TensorInfo { dtype: safetensors::Dtype::U32, shape: vec![n_rows], data_offsets };
            tensors.push(((*name).to_owned(), info));
        }
        Ok(tensors)
    }
}

const fn safetensors_dtype(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::BF16 => safetensors::Dtype::BF16,
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F64 => safetensors::Dtype::F64,
    }
}

//! Stores that are one file of rows: `.npy`, plain safetensors and headerless `*_N_D.npy`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::file_hash::kept_blake3;
use crate::header::{FlatHeader, MAX_HEADER};
use crate::npy::MAGIC;
use crate::range::check_f64;
use crate::source::SourceFile;
use crate::store::{check_all_rows, check_range, check_rows};
use crate::{
    ActivationStore, Dtype, Error, Provenance, Result, RowMeta, foreign, scratch, sidecar,
};

/// Rows one after another in a file, from some offset to its end.
#[derive(Debug)]
pub(crate) struct FlatStore {
    file: SourceFile,
    dtype: Dtype,
    n_rows: u64,
    d_model: usize,
    data_offset: u64,
    hash: OnceLock<String>,
}

impl FlatStore {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = SourceFile::open(path)?;
        let mut start =
            vec![0; usize::try_from(file.len()).map_or(MAX_HEADER, |n| n.min(MAX_HEADER))];
        file.read_exact_at(&mut start, 0)?;
        let header = if start.starts_with(MAGIC) {
            FlatHeader::parse_npy(&start).map_err(|e| Error::format(path, e.expected, e.got))?
        } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
            FlatHeader::parse_safetensors(&start, file.len())
                .map_err(|e| Error::format(path, e.expected, e.got))?
        } else {
            header_in_name(path, &start)?
        };
        Self::new(file, header, header.n_rows)
    }

    /// Opens a headerless file of f32 that holds `n_rows` rows and may be as long as `capacity` rows.
    pub(crate) fn in_front(
        path: &Path,
        n_rows: u64,
        capacity: u64,
        d_model: usize,
    ) -> Result<Self> {
        let file = SourceFile::open(path)?;
        let header =
            FlatHeader { dtype: Dtype::F32, n_rows, d_model: d_model as u64, data_offset: 0 };
        let row_bytes = (d_model as u64).saturating_mul(4);
        let is_cut = n_rows.checked_mul(row_bytes) == Some(file.len());
        Self::new(file, header, if is_cut { n_rows } else { capacity })
    }

    fn new(file: SourceFile, header: FlatHeader, capacity: u64) -> Result<Self> {
        let FlatHeader { dtype, n_rows, d_model, data_offset } = header;
        let path = file.path();
        let expected = capacity
            .checked_mul(d_model)
            .and_then(|n| n.checked_mul(dtype.size() as u64))
            .and_then(|n| n.checked_add(data_offset))
            .ok_or_else(|| {
                let got = format!("{capacity} rows of {d_model}");
                Error::format(path, "a shape whose size fits 64 bits", got)
            })?;
        if expected != file.len() {
            return Err(Error::Length { path: path.to_owned(), expected, got: file.len() });
        }
        if n_rows == 0 || d_model == 0 {
            let got = format!("{n_rows} rows of {d_model}");
            return Err(Error::format(path, "at least one row and one dimension", got));
        }
        let d_model = usize::try_from(d_model)
            .map_err(|_| Error::format(path, "a dimension that fits memory", d_model))?;
        Ok(Self { file, dtype, n_rows, d_model, data_offset, hash: OnceLock::new() })
    }
}

impl ActivationStore for FlatStore {
    fn n_rows(&self) -> u64 {
        self.n_rows
    }

    fn d_model(&self) -> usize {
        self.d_model
    }

    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn read_rows_raw(&self, start: u64, out: &mut [f32]) -> Result<()> {
        check_rows(self, start, out.len())?;
        let row_bytes = (self.d_model * self.dtype.size()) as u64;
        let offset = self.data_offset + start * row_bytes;
        let read = |bytes: &mut [u8]| self.file.read_exact_at(bytes, offset);
        scratch::read_and_decode(self.dtype, out, read, |bytes, rows| match self.dtype {
            Dtype::F64 => check_f64(bytes, rows, self.d_model, self.file.path(), start),
            Dtype::Int8 | Dtype::F16 | Dtype::BF16 | Dtype::F32 => Ok(()),
        })
    }

    fn refuse(&self, row: u64, column: usize, got: f32) -> Error {
        let path = self.file.path().to_owned();
        let mut bytes = [0; 8];
        let offset = self.data_offset + 8 * (row * self.d_model as u64 + column as u64);
        if self.dtype == Dtype::F64 && self.file.read_exact_at(&mut bytes, offset).is_ok() {
            let source = f64::from_le_bytes(bytes);
            if source.is_finite() {
                let expected = "a value that f32 can hold".to_owned();
                return Error::Range { path, row, column, expected, got: source };
            }
        }
        Error::NonFinite { path, row, column, got }
    }

    fn read_meta(&self, start: u64, out: &mut [RowMeta]) -> Result<()> {
        check_range(self, start, out.len() as u64)?;
        Err(Error::NoMetadata { path: self.file.path().to_owned() })
    }

    fn provenance(&self) -> Option<&Provenance> {
        None
    }

    fn locate(&self, row: u64) -> (PathBuf, u64) {
        (self.file.path().to_owned(), row)
    }

    fn path(&self) -> Option<&Path> {
        Some(self.file.path())
    }

    fn content_hash(&self) -> Result<String> {
        if let Some(hash) = self.hash.get() {
            return Ok(hash.clone());
        }
        let sidecar = sidecar::path(self.file.path(), "blake3.json");
        let hash = kept_blake3(&self.file, &sidecar)?;
        // The shape of a headerless file is not in its bytes.
        let hash = match self.data_offset {
            0 => {
                let text = format!("{} rows of {} f32 in {hash}\n", self.n_rows, self.d_model);
                blake3::hash(text.as_bytes()).to_hex().to_string()
            }
            _ => hash,
        };
        Ok(self.hash.get_or_init(|| hash).clone())
    }

    fn verify(&self) -> Result<()> {
        check_all_rows(self)
    }
}

/// Takes N and D from a name that ends in `_N_D.npy`; `start` is how the file begins.
fn header_in_name(path: &Path, start: &[u8]) -> Result<FlatHeader> {
    if let Some(refused) = foreign::by_name(path) {
        return Err(refused);
    }
    let stem = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".npy"));
    let sizes = stem.and_then(|stem| {
        let (rest, d_model) = stem.rsplit_once('_')?;
        let n_rows = rest.rsplit_once('_')?.1;
        Some((digits(n_rows)?, digits(d_model)?))
    });
    let Some((n_rows, d_model)) = sizes else {
        let expected = "a .npy file, or headerless f32 named *_N_D.npy";
        let other = || Error::format(path, expected, "other bytes under another name");
        return Err(foreign::by_start(path, start).unwrap_or_else(other));
    };
    Ok(FlatHeader { dtype: Dtype::F32, n_rows, d_model, data_offset: 0 })
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

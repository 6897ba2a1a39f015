//! Writing one file of rows: `.npy`, with NumPy's header or without.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;

use crate::header::FlatHeader;
use crate::{Dtype, Error, Result};

/// Writes rows to a temporary file that gets its name when it is whole.
#[derive(Debug)]
pub struct NpyWriter {
    path: PathBuf,
    file: AtomicWriteFile,
    dtype: Dtype,
    d_model: usize,
    values_left: u64,
    n_written: u64,
    encoded: Vec<u8>,
}

impl NpyWriter {
    /// Starts a true `.npy` file of `n_rows` rows: f16, f32 or f64.
    ///
    /// # Errors
    /// bf16, which NumPy does not know; no rows or dimensions; a file that cannot be written.
    pub fn create(path: &Path, dtype: Dtype, n_rows: u64, d_model: usize) -> Result<Self> {
        let header = FlatHeader::encode_npy(dtype, n_rows, d_model as u64)
            .ok_or_else(|| Error::value("dtype", "f16, f32 or f64", dtype))?;
        let mut this = Self::start(path, dtype, n_rows, d_model)?;
        this.file.write_all(&header).map_err(Error::io(path))?;
        Ok(this)
    }

    /// Starts a headerless f32 file, whose name must end in `_N_D.npy` with its sizes.
    ///
    /// # Errors
    /// Another name; no rows or dimensions; a file that cannot be written.
    pub fn create_headerless(path: &Path, n_rows: u64, d_model: usize) -> Result<Self> {
        let ending = format!("_{n_rows}_{d_model}.npy");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(&ending) {
            return Err(Error::format(path, format!("a name that ends in {ending}"), name));
        }
        Self::start(path, Dtype::F32, n_rows, d_model)
    }

    fn start(path: &Path, dtype: Dtype, n_rows: u64, d_model: usize) -> Result<Self> {
        let values_left =
            n_rows.checked_mul(d_model as u64).filter(|&n| n > 0).ok_or_else(|| {
                let got = format!("{n_rows} rows of {d_model}");
                Error::value("shape", "at least one row and one dimension", got)
            })?;
        let file = AtomicWriteFile::open(path).map_err(Error::io(path))?;
        let encoded = Vec::new();
        Ok(Self { path: path.to_owned(), file, dtype, d_model, values_left, n_written: 0, encoded })
    }

    /// Appends rows.
    ///
    /// # Shapes
    /// `rows` is `[n, d_model]`, row-major.
    ///
    /// # Errors
    /// More rows than announced; [`Error::NonFinite`] for a value that is NaN or infinite,
    /// [`Error::Range`] for one that the element type cannot hold; a file that cannot be written.
    pub fn append(&mut self, rows: &[f32]) -> Result<()> {
        let left = self.values_left.checked_sub(rows.len() as u64);
        let Some(left) = left.filter(|_| rows.len().is_multiple_of(self.d_model)) else {
            let expected = format!("a multiple of {} up to {}", self.d_model, self.values_left);
            return Err(Error::value("rows.len()", expected, rows.len()));
        };
        self.dtype.check_rows(rows, self.d_model, &self.path, self.n_written)?;
        self.encoded.clear();
        self.dtype.encode(rows, self.d_model, &mut self.encoded, &mut Vec::new());
        self.file.write_all(&self.encoded).map_err(Error::io(&self.path))?;
        self.values_left = left;
        self.n_written += (rows.len() / self.d_model) as u64;
        Ok(())
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// Fewer rows than announced, or a file that cannot be written.
    pub fn finish(self) -> Result<()> {
        if self.values_left > 0 {
            let left = self.values_left / self.d_model as u64;
            return Err(Error::value("rows", "all rows of the header", format!("{left} fewer")));
        }
        self.file.commit().map_err(Error::io(&self.path))
    }
}

//! The one trait through which every kind of store is read, and what rows carry.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::directory::open_directory;
use crate::flat::FlatStore;
use crate::{Dtype, Error, Result};

/// Bytes of f32 read at a time by [`ActivationStore::verify`].
const VERIFY_BYTES: usize = 1 << 20;

/// Rows of activations on disk, read by position.
///
/// Rows come as f32 whatever the store's element type is.
pub trait ActivationStore: Send + Sync + Debug {
    /// Number of rows.
    fn n_rows(&self) -> u64;

    /// Dimension of a row.
    fn d_model(&self) -> usize;

    /// Element type on disk.
    fn dtype(&self) -> Dtype;

    /// Reads rows from `start` on as they are, non-finite values included.
    ///
    /// # Shapes
    /// `out` is `[n, d_model]`, row-major, and decides how many rows are read.
    ///
    /// # Errors
    /// Rows outside the store, `out` no multiple of `d_model`, a file that cannot be read, was
    /// changed since it was opened, or has a row that does not match its checksum.
    fn read_rows_raw(&self, start: u64, out: &mut [f32]) -> Result<()>;

    /// Reads token, document and position of the rows from `start` on.
    ///
    /// # Errors
    /// [`Error::NoMetadata`] where the store keeps none; else as [`Self::read_rows_raw`].
    fn read_meta(&self, start: u64, out: &mut [RowMeta]) -> Result<()>;

    /// Where the activations came from, if the store knows.
    fn provenance(&self) -> Option<&Provenance>;

    /// Where each of the stores that it is made of came from, of those that know.
    fn provenances(&self) -> Vec<&Provenance> {
        self.provenance().into_iter().collect()
    }

    /// The file that holds a row, and the row's number in that file.
    fn locate(&self, row: u64) -> (PathBuf, u64);

    /// The file or directory of the store, where it is a single one.
    fn path(&self) -> Option<&Path>;

    /// A hash of everything that [`Self::read_rows`] can return, in hexadecimal.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn content_hash(&self) -> Result<String>;

    /// That of each of the stores that it is made of.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn content_hashes(&self) -> Result<Vec<String>> {
        Ok(vec![self.content_hash()?])
    }

    /// Reads rows from `start` on.
    ///
    /// # Shapes
    /// `out` is `[n, d_model]`, row-major, and decides how many rows are read.
    ///
    /// # Errors
    /// Those of [`Self::read_rows_raw`], and [`Error::NonFinite`] for the first value that is NaN
    /// or infinite, [`Error::Range`] where it is so as f32 only.
    fn read_rows(&self, start: u64, out: &mut [f32]) -> Result<()> {
        self.read_rows_raw(start, out)?;
        if all_finite(out) {
            return Ok(());
        }
        let at = out.iter().position(|v| !v.is_finite()).unwrap_or_default();
        let row = start + (at / self.d_model()) as u64;
        Err(self.refuse(row, at % self.d_model(), out[at]))
    }

    /// The error that says that a value, read as `got`, is NaN or infinite.
    fn refuse(&self, row: u64, column: usize, got: f32) -> Error {
        let (path, row) = self.locate(row);
        Error::NonFinite { path, row, column, got }
    }

    /// Reads the whole store and checks all that can be checked: checksums and finite values.
    ///
    /// # Errors
    /// The first damage found.
    fn verify(&self) -> Result<()>;
}

/// What is known of a row besides its activations.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
#[repr(C)]
pub struct RowMeta {
    /// The token at this position.
    pub token_id: u32,
    /// The document (or image), counted from 0 over the store.
    pub document: u32,
    /// The position in the context, from 0.
    pub position: u32,
}

/// Where activations came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provenance {
    /// Name of the host model.
    pub host: String,
    /// Hash of its weights.
    pub host_hash: Option<String>,
    /// The hook point, as in `resid_post.15`.
    pub hook_point: String,
    /// Hash of its tokenizer.
    pub tokenizer_hash: Option<String>,
    /// Hash of each text, in order.
    pub text_hashes: Vec<String>,
    /// Hash of each image, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_hashes: Vec<String>,
    /// Name of each image, in order: its path in the folder of images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_names: Vec<String>,
    /// Whatever else decides the rows, such as the context length.
    pub settings: std::collections::BTreeMap<String, String>,
}

/// Opens a store of any format, read-only.
///
/// - a directory with `manifest.json`: the native format ([`crate::StoreWriter`]);
/// - a directory with `metadata.json` and `acts*.bin`: shards of the tool saev, of one layer;
/// - any other directory: all `*.npy` and `*.safetensors` files and native stores in it, one after
///   another. Numbers in names count by value (`acts_2` before `acts_10`), other bytes as they are.
///   Hidden entries, texts and pictures are passed over, anything else is refused;
/// - a file that starts as NumPy's `.npy` does: that format (f16, f32, f64, C order, 2-d), whatever
///   sizes its name has;
/// - a file named `*.safetensors`: one 2-d tensor of f16, bf16, f32 or f64;
/// - a file named `*_N_D.npy`: N rows of D f32 without a header.
///
/// # Errors
/// A path that cannot be read or holds none of these; an unfinished store; a file whose length
/// does not match its header or name; a directory with files that may hold rows and are not read.
pub fn open_store(path: &Path) -> Result<Arc<dyn ActivationStore>> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if metadata.is_dir() { open_directory(path) } else { Ok(Arc::new(FlatStore::open(path)?)) }
}

/// Checks a request for `len` values from row `start` on.
pub(crate) fn check_rows(store: &dyn ActivationStore, start: u64, len: usize) -> Result<u64> {
    let d_model = store.d_model();
    if !len.is_multiple_of(d_model) {
        return Err(Error::value("out.len()", format!("a multiple of d_model {d_model}"), len));
    }
    let n = (len / d_model) as u64;
    check_range(store, start, n)?;
    Ok(n)
}

/// Checks that rows `start..start + n` exist.
pub(crate) fn check_range(store: &dyn ActivationStore, start: u64, n: u64) -> Result<()> {
    let n_rows = store.n_rows();
    let end = start.saturating_add(n);
    if end > n_rows {
        return Err(Error::OutOfRange { start, end, n_rows });
    }
    Ok(())
}

/// Reads the whole store for the sake of the checks of reading.
pub(crate) fn check_all_rows(store: &dyn ActivationStore) -> Result<()> {
    let d_model = store.d_model();
    let rows_at_once = (VERIFY_BYTES / (4 * d_model)).max(1) as u64;
    let mut rows = vec![0.0; to_usize(rows_at_once.min(store.n_rows())) * d_model];
    let mut start = 0;
    while start < store.n_rows() {
        let n = rows_at_once.min(store.n_rows() - start);
        store.read_rows(start, &mut rows[..to_usize(n) * d_model])?;
        start += n;
    }
    Ok(())
}

/// A row count that is known to describe something in memory.
pub(crate) fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("counts of rows in memory fit a usize")
}

pub(crate) fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    values
        .chunks(4096)
        .all(|chunk| !chunk.iter().fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT)))
}

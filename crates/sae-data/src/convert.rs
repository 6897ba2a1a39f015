//! Copying a store into another format.

use std::path::Path;

use crate::store::to_usize;
use crate::{
    ActivationStore, Compression, Dtype, Error, NpyWriter, Provenance, Result, RowMeta, StoreSpec,
    StoreWriter,
};

/// Bytes of f32 copied at a time.
const PIECE_BYTES: usize = 4 << 20;

/// A format that [`convert`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The native format.
    Native,
    /// The native format, compressed.
    Compressed(Compression),
    /// NumPy's `.npy`.
    Npy,
    /// Headerless f32, named `*_N_D.npy`.
    Headerless,
}

/// Copies all rows of a store to `out`; `progress` hears the number of rows behind.
///
/// A native copy of a store without metadata of its rows, or of some of them, has none either.
///
/// # Errors
/// An element type that the format does not have, rows that cannot be read or are not finite, a
/// place that cannot be written or holds a store already.
pub fn convert(
    store: &dyn ActivationStore,
    out: &Path,
    format: Format,
    dtype: Dtype,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let (n_rows, d_model) = (store.n_rows(), store.d_model());
    match format {
        Format::Native | Format::Compressed(_) => {
            let compression = match format {
                Format::Compressed(compression) => Some(compression),
                _ => None,
            };
            let provenance = store.provenance().cloned().unwrap_or_else(Provenance::default);
            let row_metadata = has_metadata(store)?;
            let spec = StoreSpec {
                provenance,
                row_metadata,
                compression,
                ..StoreSpec::new(d_model, dtype)
            };
            let mut writer = StoreWriter::create(out, spec)?;
            copy(store, progress, |start, rows| {
                let mut meta = vec![RowMeta::default(); rows.len() / d_model];
                if row_metadata {
                    store.read_meta(start, &mut meta)?;
                }
                writer.append(rows, &meta)
            })?;
            writer.finish()
        }
        Format::Npy => copy_flat(store, NpyWriter::create(out, dtype, n_rows, d_model)?, progress),
        Format::Headerless => {
            if dtype != Dtype::F32 {
                return Err(Error::value("dtype", "f32, as all headerless files", dtype));
            }
            copy_flat(store, NpyWriter::create_headerless(out, n_rows, d_model)?, progress)
        }
    }
}

fn copy_flat(
    store: &dyn ActivationStore,
    mut writer: NpyWriter,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    copy(store, progress, |_, rows| writer.append(rows))?;
    writer.finish()
}

fn copy(
    store: &dyn ActivationStore,
    progress: &mut dyn FnMut(u64),
    mut append: impl FnMut(u64, &[f32]) -> Result<()>,
) -> Result<()> {
    let d_model = store.d_model();
    let rows_at_once = (PIECE_BYTES / (4 * d_model)).max(1) as u64;
    let mut rows = Vec::new();
    let mut start = 0;
    while start < store.n_rows() {
        let n = rows_at_once.min(store.n_rows() - start);
        rows.resize(to_usize(n) * d_model, 0.0);
        store.read_rows(start, &mut rows)?;
        append(start, &rows)?;
        start += n;
        progress(start);
    }
    Ok(())
}

/// Whether token, document and position of all rows are known.
fn has_metadata(store: &dyn ActivationStore) -> Result<bool> {
    let mut meta = vec![RowMeta::default(); PIECE_BYTES / size_of::<RowMeta>()];
    let mut start = 0;
    while start < store.n_rows() {
        let n = (meta.len() as u64).min(store.n_rows() - start);
        match store.read_meta(start, &mut meta[..to_usize(n)]) {
            Err(Error::NoMetadata { .. }) => return Ok(false),
            other => other?,
        }
        start += n;
    }
    Ok(true)
}

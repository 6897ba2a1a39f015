//! Runs a host over texts or images and writes the activations at a hook point to a store.

mod batches;
mod host_rows;
mod images;
mod stores;
mod texts;

use std::path::{Path, PathBuf};

use sae_data::{Provenance, RowMeta, StoreWriter};
use tch::{Device, Kind, Tensor};

use crate::corpus::Skipped;
use crate::{Error, HookPoint, HostModel, Result, huggingface};

pub(crate) use batches::{ContextBatch, ContextBatches};
pub use host_rows::HostRows;
pub use images::{ImageOptions, harvest_images, harvest_images_at};
pub use texts::{HarvestOptions, harvest, harvest_at, harvest_corpus};
pub(crate) use texts::{check_options, provenance};

/// How far a harvest is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HarvestProgress {
    /// Tokens of text, or images, seen.
    pub n_seen: u64,
    /// Rows in the store, those of an earlier, interrupted harvest included.
    pub n_rows: u64,
    /// Tokens of text, or images, in all; not known before all texts are tokenised.
    pub n_total: Option<u64>,
    /// The share of the texts that is tokenised, or of the images that are done, from 0 to 1.
    pub fraction: f64,
    /// Damaged files and documents that were left out.
    pub skipped: Skipped,
}

/// Appends a document's rows, but for those that are `present` already.
fn append(
    writer: &mut StoreWriter,
    present: &mut u64,
    rows: &[f32],
    meta: &[RowMeta],
) -> Result<()> {
    let skip = usize::try_from(*present).map_or(meta.len(), |present| present.min(meta.len()));
    *present -= skip as u64;
    if skip < meta.len() {
        let d_model = rows.len() / meta.len();
        writer.append(&rows[skip * d_model..], &meta[skip..])?;
    }
    Ok(())
}

/// The elements of a tensor in f32.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
}

/// What every harvest says of its host: its name, its hash and the hook point.
///
/// # Errors
/// A file that cannot be read.
pub fn of_host(host: &HostModel, hook: HookPoint) -> Result<Provenance> {
    Ok(Provenance {
        host: host.name().to_owned(),
        host_hash: Some(host_hash(host.path())?),
        hook_point: hook.to_string(),
        ..Provenance::default()
    })
}

/// The BLAKE3 hash of a host's file, or of the settings and weight files of its folder.
fn host_hash(path: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = vec![path.to_path_buf()];
    if path.is_dir() {
        files = vec![path.join("config.json")];
        files.extend(huggingface::weight_files(path)?);
    }
    file_hash(&files)
}

/// The BLAKE3 hash of files, one after another.
pub(crate) fn file_hash(files: &[PathBuf]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let mut reader = std::fs::File::open(file).map_err(Error::io(file))?;
        hasher.update_reader(&mut reader).map_err(Error::io(file))?;
    }
    Ok(hasher.finalize().to_string())
}

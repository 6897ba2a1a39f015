//! Writing the native format so that a crash at any moment loses at most the shard in hand.
//!
//! A shard is written to a temporary file, synced and renamed; then the manifest that names it is
//! replaced in the same way. Rows go to disk as they come: memory holds 16 bytes a row, 20 of int8,
//! and a frame where rows are compressed.

mod shard;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::shard::ShardWriter;
use crate::compression::MAX_FRAME_BYTES;
use crate::manifest::{FILE_NAME, Manifest};
use crate::output_lock::OutputLock;
use crate::shard::{Layout, RowFormat};
use crate::unfinished::remove_unfinished;
use crate::{Compression, Dtype, Error, Provenance, Result, RowMeta};

/// What a store will hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSpec {
    /// Dimension of a row.
    pub d_model: usize,
    /// Element type on disk: int8, f16, bf16 or f32.
    pub dtype: Dtype,
    /// How the activations are compressed; not at all if `None`.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Rows a shard.
    pub rows_per_shard: u64,
    /// Where the activations come from.
    pub provenance: Provenance,
    /// Whether token, document and position of the rows are known; what is written in their place
    /// otherwise is never read.
    pub row_metadata: bool,
}

impl StoreSpec {
    /// A spec with shards of about 256 MiB, metadata of the rows and no provenance.
    #[must_use]
    pub fn new(d_model: usize, dtype: Dtype) -> Self {
        let row_bytes = d_model.saturating_mul(dtype.size()).max(1) as u64;
        let rows_per_shard = ((256 << 20) / row_bytes).max(1);
        let provenance = Provenance::default();
        let compression = None;
        Self { d_model, dtype, compression, rows_per_shard, provenance, row_metadata: true }
    }
}

/// Appends rows to a native store.
///
/// Dropped before [`StoreWriter::finish`], it leaves an unfinished store: [`crate::open_store`]
/// refuses it, [`StoreWriter::resume`] goes on after its last whole shard.
#[derive(Debug)]
pub struct StoreWriter {
    dir: PathBuf,
    manifest: Manifest,
    n_rows: u64,
    shard: Option<ShardWriter>,
    encoded: Vec<u8>,
    failed: bool,
    _lock: OutputLock,
}

impl StoreWriter {
    /// Starts a new store in `dir`, which is created if it is not there.
    ///
    /// # Errors
    /// A spec out of range, a directory that already holds a store, that another process is
    /// writing, or that cannot be written.
    pub fn create(dir: &Path, spec: StoreSpec) -> Result<Self> {
        let (lock, found) = prepare(dir, &spec)?;
        if let Some(found) = found {
            let got = match found.complete {
                true => "one that exists",
                false => "an unfinished one, which what began it goes on with; else delete it",
            };
            return Err(Error::format(dir, "no store", got));
        }
        Self::start(dir, Manifest::of(spec), lock)
    }

    /// Goes on with an unfinished store after its last whole shard ([`Self::n_rows`]), or starts
    /// a new one where there is none or it has no shard yet. Appending the same rows as before from there on ends in the
    /// same bytes as without the interruption.
    ///
    /// # Errors
    /// As [`Self::create`]; a store of another spec or one that is finished.
    pub fn resume(dir: &Path, spec: StoreSpec) -> Result<Self> {
        let writer = Self::resume_unfinished(dir, spec)?;
        writer.ok_or_else(|| Error::format(dir, "an unfinished store", "a finished one"))
    }

    /// As [`Self::resume`], or none where the store of this spec is finished.
    ///
    /// # Errors
    /// As [`Self::create`]; a store of another spec.
    pub fn resume_unfinished(dir: &Path, spec: StoreSpec) -> Result<Option<Self>> {
        let (lock, found) = prepare(dir, &spec)?;
        let wanted = Manifest::of(spec);
        let Some(found) = found else { return Self::start(dir, wanted, lock).map(Some) };
        // Where there are no rows yet, nothing is lost by another beginning.
        let is_begun = found.complete || !found.shards.is_empty();
        if is_begun {
            found.check_same_spec(&wanted, &dir.join(FILE_NAME))?;
        }
        if found.complete {
            return Ok(None);
        }
        let is_shard = |name: &str| name.starts_with("shard-") && name.ends_with(".safetensors");
        remove_unfinished(dir, |name| is_shard(name) || name == FILE_NAME)?;
        Self::start(dir, if is_begun { found } else { wanted }, lock).map(Some)
    }

    fn start(dir: &Path, manifest: Manifest, lock: OutputLock) -> Result<Self> {
        manifest.write(&dir.join(FILE_NAME))?;
        let n_rows = manifest.n_rows().unwrap_or_default();
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            n_rows,
            shard: None,
            encoded: Vec::new(),
            failed: false,
            _lock: lock,
        })
    }

    /// Rows appended so far, those before a resume included.
    #[must_use]
    pub const fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Appends rows.
    ///
    /// # Shapes
    /// `rows` is `[n, d_model]`, row-major; `meta` is `[n]`.
    ///
    /// # Errors
    /// Other shapes; [`Error::NonFinite`] for a value that is NaN or infinite, [`Error::Range`] for
    /// one that the element type cannot hold, naming the row it would have been in its shard; a disk
    /// that cannot be written. After an error the writer takes no more rows.
    pub fn append(&mut self, rows: &[f32], meta: &[RowMeta]) -> Result<()> {
        let d_model = self.manifest.d_model;
        if rows.len() != meta.len() * d_model {
            let expected = format!("{} ({} rows of {d_model})", meta.len() * d_model, meta.len());
            return Err(Error::value("rows.len()", expected, rows.len()));
        }
        self.guarded(|writer| {
            let mut done = 0;
            while done < meta.len() {
                let n = writer.room().min(meta.len() - done);
                writer.write(&rows[done * d_model..][..n * d_model], &meta[done..][..n])?;
                done += n;
                if writer.room() == 0 {
                    writer.close_shard()?;
                }
            }
            Ok(())
        })
    }

    /// Writes the last shard and marks the store as finished.
    ///
    /// # Errors
    /// A disk that cannot be written; a store without rows.
    pub fn finish(mut self) -> Result<()> {
        if self.n_rows == 0 {
            return Err(Error::format(&self.dir, "at least one row", 0));
        }
        self.guarded(|writer| {
            writer.manifest.complete = true;
            match writer.shard {
                Some(_) => writer.close_shard(),
                None => writer.manifest.write(&writer.dir.join(FILE_NAME)),
            }
        })
    }

    /// Runs `write` unless an earlier one failed.
    fn guarded(&mut self, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.failed {
            return Err(Error::format(&self.dir, "a writer without errors", "one that failed"));
        }
        self.failed = true;
        write(self)?;
        self.failed = false;
        Ok(())
    }

    /// Rows that still fit the shard in hand.
    fn room(&self) -> usize {
        let used = self.shard.as_ref().map_or(0, |shard| shard.columns[0].len());
        usize::try_from(self.manifest.rows_per_shard).unwrap_or(usize::MAX) - used
    }

    fn write(&mut self, rows: &[f32], meta: &[RowMeta]) -> Result<()> {
        let format = self.manifest.row_format();
        let shard = match &mut self.shard {
            Some(shard) => shard,
            none => none.insert(ShardWriter::new(&self.dir, self.manifest.shards.len(), format)?),
        };
        let RowFormat { d_model, dtype, .. } = format;
        dtype.check_rows(rows, d_model, &shard.path, shard.columns[0].len() as u64)?;
        self.encoded.clear();
        dtype.encode(rows, d_model, &mut self.encoded, &mut shard.scales);
        shard.write(&self.encoded, meta)?;
        self.n_rows += meta.len() as u64;
        Ok(())
    }

    fn close_shard(&mut self) -> Result<()> {
        if let Some(shard) = self.shard.take() {
            let entry = shard.close(&self.manifest)?;
            self.manifest.shards.push(entry);
        }
        self.manifest.write(&self.dir.join(FILE_NAME))
    }
}

/// Checks the spec, creates the directory, takes its lock and reads its manifest, if any.
fn prepare(dir: &Path, spec: &StoreSpec) -> Result<(OutputLock, Option<Manifest>)> {
    if spec.d_model == 0 {
        return Err(Error::value("d_model", "at least 1", 0));
    }
    if spec.rows_per_shard == 0 {
        return Err(Error::value("rows_per_shard", "at least 1", 0));
    }
    if spec.dtype == Dtype::F64 {
        return Err(Error::value("dtype", "int8, f16, bf16 or f32", spec.dtype));
    }
    let format = Manifest::of(spec.clone()).row_format();
    if !format.has_frames_in_bounds() {
        let expected = format!("rows of at most {MAX_FRAME_BYTES} bytes, to be compressed");
        return Err(Error::value("d_model", expected, spec.d_model));
    }
    if Layout::new(spec.rows_per_shard, format).is_none() {
        let got = format!("{} rows of {}", spec.rows_per_shard, spec.d_model);
        return Err(Error::value("rows_per_shard", "a shard whose size fits 64 bits", got));
    }
    let lock = OutputLock::directory(dir)?;
    let path = dir.join(FILE_NAME);
    let found = if path.exists() { Some(Manifest::read(&path)?) } else { None };
    Ok((lock, found))
}

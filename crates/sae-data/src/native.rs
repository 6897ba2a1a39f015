//! Reading the native format: a directory of safetensors shards with a manifest.

use std::path::{Path, PathBuf};

use crate::compression::FrameIndex;
use crate::manifest::{FILE_NAME, Manifest};
use crate::shard::{self, DATA_OFFSET, Layout, RowFormat};
use crate::source::SourceFile;
use crate::store::{check_all_rows, check_range, check_rows, to_usize};
use crate::{ActivationStore, Dtype, Error, Provenance, Result, RowMeta, int8, scratch};

/// A finished native store.
#[derive(Debug)]
pub(crate) struct NativeStore {
    path: PathBuf,
    manifest: Manifest,
    shards: Vec<OpenShard>,
    n_rows: u64,
}

#[derive(Debug)]
struct OpenShard {
    file: SourceFile,
    layout: Layout,
    /// Where the frames are, of rows that are compressed.
    frames: Option<FrameIndex>,
}

impl NativeStore {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let manifest_path = path.join(FILE_NAME);
        let manifest = Manifest::read(&manifest_path)?;
        let n_rows = manifest.n_rows().unwrap_or_default();
        if !manifest.complete {
            return Err(Error::Incomplete { path: path.to_owned(), n_rows });
        }
        if n_rows == 0 {
            return Err(Error::format(&manifest_path, "at least one row", 0));
        }
        let open = |shard| open_shard(path, &manifest, shard);
        let shards = manifest.shards.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { path: path.to_owned(), manifest, shards, n_rows })
    }

    /// Calls `read` for each shard that holds some of rows `start..start + n`, with the first row
    /// within the shard, the number of rows, and how many came before.
    fn for_each_shard(
        &self,
        start: u64,
        n: u64,
        mut read: impl FnMut(&OpenShard, u64, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < n {
            let (i, row) = self.place(start + done);
            let here = (self.shards[i].layout.n_rows() - row).min(n - done);
            read(&self.shards[i], row, to_usize(here), to_usize(done))?;
            done += here;
        }
        Ok(())
    }

    fn place(&self, row: u64) -> (usize, u64) {
        let per_shard = self.manifest.rows_per_shard;
        (to_usize(row / per_shard), row % per_shard)
    }
}

impl ActivationStore for NativeStore {
    fn n_rows(&self) -> u64 {
        self.n_rows
    }

    fn d_model(&self) -> usize {
        self.manifest.d_model
    }

    fn dtype(&self) -> Dtype {
        self.manifest.dtype
    }

    fn read_rows_raw(&self, start: u64, out: &mut [f32]) -> Result<()> {
        let n = check_rows(self, start, out.len())?;
        let d_model = self.d_model();
        self.for_each_shard(start, n, |shard, row, n, done| {
            shard.read_rows(row, &mut out[done * d_model..][..n * d_model])
        })
    }

    fn read_meta(&self, start: u64, out: &mut [RowMeta]) -> Result<()> {
        let n = out.len() as u64;
        check_range(self, start, n)?;
        if !self.manifest.row_metadata {
            return Err(Error::NoMetadata { path: self.path.clone() });
        }
        self.for_each_shard(start, n, |shard, row, n, done| {
            shard.read_meta(row, &mut out[done..][..n])
        })
    }

    fn provenance(&self) -> Option<&Provenance> {
        Some(&self.manifest.provenance)
    }

    fn locate(&self, row: u64) -> (PathBuf, u64) {
        let (i, row) = self.place(row);
        match self.shards.get(i) {
            Some(shard) => (shard.file.path().to_owned(), row),
            None => (self.path.clone(), row),
        }
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn content_hash(&self) -> Result<String> {
        Ok(self.manifest.content_hash())
    }

    fn verify(&self) -> Result<()> {
        check_all_rows(self)?;
        for (open, shard) in self.shards.iter().zip(&self.manifest.shards) {
            check_hash(&open.file, "file", &shard.blake3, open.file.blake3()?)?;
        }
        Ok(())
    }
}

impl OpenShard {
    /// Reads rows and compares each with its CRC-32.
    fn read_rows(&self, row: u64, out: &mut [f32]) -> Result<()> {
        let RowFormat { d_model, dtype, .. } = self.layout.format();
        let mut scales = vec![0.0_f32; if dtype == Dtype::Int8 { out.len() / d_model } else { 0 }];
        if !scales.is_empty() {
            let bytes = bytemuck::cast_slice_mut(&mut scales);
            self.file.read_exact_at(bytes, self.layout.scale_offset(row))?;
        }
        let read = |bytes: &mut [u8]| {
            match &self.frames {
                None => self.file.read_exact_at(bytes, self.layout.row_offset(row))?,
                Some(frames) => frames.read_rows(&self.file, &self.layout, row, bytes)?,
            }
            self.check_rows(row, bytes, &scales)
        };
        scratch::read_and_decode(dtype, out, read, |_, _| Ok(()))?;
        int8::scale_rows(out, d_model, &scales);
        Ok(())
    }

    fn check_rows(&self, first: u64, bytes: &[u8], scales: &[f32]) -> Result<()> {
        let row_bytes = to_usize(self.layout.row_bytes());
        let checksums = self.read_column(0, first, bytes.len() / row_bytes)?;
        for ((i, bytes), expected) in bytes.chunks(row_bytes).enumerate().zip(checksums) {
            let got = shard::checksum(bytes, scales.get(i).copied());
            if got != expected {
                return Err(Error::Checksum {
                    path: self.file.path().to_owned(),
                    item: format!("row {}", first + i as u64),
                    expected: format!("{expected:08x}"),
                    got: format!("{got:08x}"),
                });
            }
        }
        Ok(())
    }

    fn read_meta(&self, row: u64, out: &mut [RowMeta]) -> Result<()> {
        let token_ids = self.read_column(1, row, out.len())?;
        let documents = self.read_column(2, row, out.len())?;
        let positions = self.read_column(3, row, out.len())?;
        for (i, meta) in out.iter_mut().enumerate() {
            *meta =
                RowMeta { token_id: token_ids[i], document: documents[i], position: positions[i] };
        }
        Ok(())
    }

    fn read_column(&self, column: usize, row: u64, n: usize) -> Result<Vec<u32>> {
        let mut values = vec![0_u32; n];
        let offset = self.layout.column_offset(column, row);
        self.file.read_exact_at(bytemuck::cast_slice_mut(&mut values), offset)?;
        Ok(values)
    }
}

fn open_shard(
    dir: &Path,
    manifest: &Manifest,
    shard: &crate::manifest::Shard,
) -> Result<OpenShard> {
    let path = dir.join(&shard.file);
    let format = manifest.row_format();
    let layout = Layout::of_file(shard.n_rows, format, shard.n_bytes)
        .ok_or_else(|| Error::format(&path, "a shard whose size fits 64 bits", shard.n_rows))?;
    let file = SourceFile::open(&path)?;
    if file.len() != layout.n_bytes() || shard.n_bytes != layout.n_bytes() {
        let got = if file.len() == layout.n_bytes() { shard.n_bytes } else { file.len() };
        return Err(Error::Length { path, expected: layout.n_bytes(), got });
    }
    let mut header = vec![0; to_usize(DATA_OFFSET)];
    file.read_exact_at(&mut header, 0)?;
    layout.check_header(&header, &path)?;
    if !shard.columns_blake3.is_empty() {
        let got = file.blake3_from(layout.index_offset())?;
        check_hash(&file, "checksums and metadata of the rows", &shard.columns_blake3, got)?;
    }
    let frames =
        format.frames.map(|frames| FrameIndex::read(frames, &file, &layout)).transpose()?;
    Ok(OpenShard { file, layout, frames })
}

fn check_hash(file: &SourceFile, item: &str, expected: &str, got: String) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let (path, item, expected) = (file.path().to_owned(), item.to_owned(), expected.to_owned());
    Err(Error::Checksum { path, item, expected, got })
}

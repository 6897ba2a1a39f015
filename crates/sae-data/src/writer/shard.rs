//! One shard, written to a temporary file until it is whole.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;

use crate::compression::FrameWriter;
use crate::manifest::{Manifest, Shard, shard_name};
use crate::shard::{COLUMNS, DATA_OFFSET, Layout, RowFormat, checksum};
use crate::source::SourceFile;
use crate::store::to_usize;
use crate::{Error, Result, RowMeta};

/// The shard in hand.
#[derive(Debug)]
pub(super) struct ShardWriter {
    pub(super) path: PathBuf,
    file: AtomicWriteFile,
    format: RowFormat,
    /// Of a store that is compressed.
    frames: Option<FrameWriter>,
    pub(super) scales: Vec<f32>,
    pub(super) columns: [Vec<u32>; COLUMNS.len()],
}

impl ShardWriter {
    /// Starts shard `i` of a store.
    pub(super) fn new(dir: &Path, i: usize, format: RowFormat) -> Result<Self> {
        let path = dir.join(shard_name(i));
        let mut file = AtomicWriteFile::open(&path).map_err(Error::io(&path))?;
        file.write_all(&vec![0; to_usize(DATA_OFFSET)]).map_err(Error::io(&path))?;
        let row_bytes = format.d_model * format.dtype.size();
        let of_store = |frames| FrameWriter::new(frames, row_bytes, format.dtype, &path);
        let frames = format.frames.map(of_store).transpose()?;
        Ok(Self { path, file, format, frames, scales: Vec::new(), columns: Default::default() })
    }

    /// Writes rows, whose scales are the last ones.
    pub(super) fn write(&mut self, encoded: &[u8], meta: &[RowMeta]) -> Result<()> {
        self.write_rows(encoded, false)?;
        let [checksums, token_ids, documents, positions] = &mut self.columns;
        let row_bytes = self.format.d_model * self.format.dtype.size();
        for (row, i) in encoded.chunks(row_bytes).zip(checksums.len()..) {
            checksums.push(checksum(row, self.scales.get(i).copied()));
        }
        token_ids.extend(meta.iter().map(|m| m.token_id));
        documents.extend(meta.iter().map(|m| m.document));
        positions.extend(meta.iter().map(|m| m.position));
        Ok(())
    }

    /// Writes rows as they are, or in frames, with `last` all that are left of them.
    fn write_rows(&mut self, encoded: &[u8], last: bool) -> Result<()> {
        let Self { file, frames, .. } = self;
        let written = match frames {
            None => file.write_all(encoded),
            Some(frames) => frames.append(encoded, last, |frame| file.write_all(frame)),
        };
        written.map_err(Error::io(&self.path))
    }

    /// Writes what is left of the rows, and the index of frames; returns where the activations end.
    fn close_frames(&mut self, columns: &mut blake3::Hasher) -> Result<Option<u64>> {
        self.write_rows(&[], true)?;
        let Some(frames) = &self.frames else { return Ok(None) };
        let end = frames.ends.last().copied().unwrap_or_default();
        let padded = end.next_multiple_of(8);
        let index = bytemuck::cast_slice(&frames.ends);
        columns.update(index);
        let padding = vec![0; to_usize(padded - end)];
        let written = self.file.write_all(&padding).and_then(|()| self.file.write_all(index));
        written.map_err(Error::io(&self.path))?;
        Ok(Some(padded))
    }

    /// Writes columns and header, syncs, renames, and hashes what is there.
    pub(super) fn close(mut self, manifest: &Manifest) -> Result<Shard> {
        let n_rows = self.columns[0].len() as u64;
        let mut columns = blake3::Hasher::new();
        let layout = match self.close_frames(&mut columns)? {
            None => Layout::new(n_rows, self.format),
            Some(data_bytes) => Layout::compressed(n_rows, self.format, data_bytes),
        };
        let layout =
            layout.ok_or_else(|| Error::format(&self.path, "a size that fits 64 bits", n_rows))?;
        let scales = bytemuck::cast_slice(&self.scales);
        for bytes in
            std::iter::once(scales).chain(self.columns.iter().map(|c| bytemuck::cast_slice(c)))
        {
            columns.update(bytes);
            self.file.write_all(bytes).map_err(Error::io(&self.path))?;
        }
        let header = layout.header(&self.path)?;
        self.file.as_file().write_all_at(&header, 0).map_err(Error::io(&self.path))?;
        self.file.commit().map_err(Error::io(&self.path))?;
        let file = SourceFile::open(&self.path)?;
        if file.len() != layout.n_bytes() {
            let (path, expected, got) = (self.path, layout.n_bytes(), file.len());
            return Err(Error::Length { path, expected, got });
        }
        Ok(Shard {
            file: shard_name(manifest.shards.len()),
            n_rows,
            n_bytes: layout.n_bytes(),
            blake3: file.blake3()?,
            columns_blake3: columns.finalize().to_hex().to_string(),
        })
    }
}

//! Compression of the native format: frames of some rows, each of which can be read by itself.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};

use crate::shard::Layout;
use crate::source::SourceFile;
use crate::store::to_usize;
use crate::{Dtype, Error, Result};

/// Bytes of f32 that a frame holds: as many as a loader reads in one go by default.
const FRAME_BYTES: usize = 128 << 10;

/// Bytes of a frame's rows at most.
pub(crate) const MAX_FRAME_BYTES: u64 = 16 << 20;

/// zstd at a level: `zstd` or `zstd:LEVEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Compression {
    level: i32,
}

impl Compression {
    /// The level where none is named.
    const LEVEL: i32 = 3;

    /// zstd at a level from 1 to 22.
    ///
    /// # Errors
    /// Another level.
    pub fn zstd(level: i32) -> Result<Self> {
        if (1..=22).contains(&level) {
            return Ok(Self { level });
        }
        Err(Error::value("level of zstd", "1 to 22", level))
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::value("compression", "zstd or zstd:LEVEL, from 1 to 22", text);
        match text.split_once(':') {
            None if text == "zstd" => Self::zstd(Self::LEVEL),
            Some(("zstd", level)) => {
                level.parse().ok().and_then(|level| Self::zstd(level).ok()).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Compression {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Compression> for String {
    fn from(compression: Compression) -> Self {
        compression.to_string()
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zstd:{}", self.level)
    }
}

/// The frames of a store, as its manifest has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frames {
    /// How each is compressed.
    pub compression: Compression,
    /// Rows of each but the last of a shard, which may have fewer.
    pub rows: u64,
}

impl Frames {
    pub(crate) fn new(compression: Compression, d_model: usize) -> Self {
        let rows = (FRAME_BYTES / d_model.saturating_mul(4).max(1)).max(1) as u64;
        Self { compression, rows }
    }
}

/// Compresses the rows of a shard as they come.
pub(crate) struct FrameWriter {
    compressor: Compressor<'static>,
    /// Bytes of a whole frame.
    frame_bytes: usize,
    element_bytes: usize,
    /// Rows that do not fill a frame yet.
    pending: Vec<u8>,
    /// Where each frame ends.
    pub(crate) ends: Vec<u64>,
}

impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl FrameWriter {
    pub(crate) fn new(frames: Frames, row_bytes: usize, dtype: Dtype, path: &Path) -> Result<Self> {
        let compressor = Compressor::new(frames.compression.level).map_err(Error::io(path))?;
        Ok(Self {
            compressor,
            frame_bytes: to_usize(frames.rows) * row_bytes,
            element_bytes: dtype.size(),
            pending: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// Takes rows, and gives each frame that is whole to `write`; with `last` the rest too.
    pub(crate) fn append(
        &mut self,
        rows: &[u8],
        last: bool,
        mut write: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        self.pending.extend_from_slice(rows);
        let whole = self.pending.len() - self.pending.len() % self.frame_bytes;
        let taken = if last { self.pending.len() } else { whole };
        for frame in self.pending[..taken].chunks(self.frame_bytes) {
            let mut planes = vec![0; frame.len()];
            split(frame, self.element_bytes, &mut planes);
            let packed = self.compressor.compress(&planes)?;
            write(&packed)?;
            self.ends.push(self.ends.last().unwrap_or(&0) + packed.len() as u64);
        }
        self.pending.drain(..taken);
        Ok(())
    }
}

/// Where the frames of an open shard are.
#[derive(Debug)]
pub(crate) struct FrameIndex {
    rows: u64,
    ends: Vec<u64>,
    /// A number of this shard alone, in this process.
    id: u64,
}

/// The rows of the frame that a thread has read last.
#[derive(Default)]
struct Cached {
    /// The shard's number and the frame's.
    of: Option<(u64, usize)>,
    rows: Vec<u8>,
    planes: Vec<u8>,
    packed: Vec<u8>,
}

thread_local! {
    static CACHED: RefCell<Cached> = RefCell::default();
}

impl FrameIndex {
    /// Reads the index of a shard and checks that the frames follow each other to the end.
    pub(crate) fn read(frames: Frames, file: &SourceFile, layout: &Layout) -> Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let mut ends = vec![0_u64; to_usize(layout.n_frames())];
        file.read_exact_at(bytemuck::cast_slice_mut(&mut ends), layout.index_offset())?;
        let ascending = ends.is_sorted_by(|a, b| a < b) && ends.first() > Some(&0);
        let last = ends.last().copied().unwrap_or_default();
        if !ascending || last.checked_next_multiple_of(8) != Some(layout.data_bytes()) {
            let expected = format!("frames that fill {} bytes in order", layout.data_bytes());
            return Err(Error::format(file.path(), expected, format!("an end at {last}")));
        }
        Ok(Self { rows: frames.rows, ends, id: COUNTER.fetch_add(1, Ordering::Relaxed) })
    }

    /// Fills `bytes` with the rows from `row` on.
    pub(crate) fn read_rows(
        &self,
        file: &SourceFile,
        layout: &Layout,
        row: u64,
        bytes: &mut [u8],
    ) -> Result<()> {
        let row_bytes = to_usize(layout.row_bytes());
        let mut done = 0;
        CACHED.with_borrow_mut(|cached| {
            while done < bytes.len() {
                let row = row + (done / row_bytes) as u64;
                self.load(cached, file, layout, to_usize(row / self.rows))?;
                let start = to_usize(row % self.rows) * row_bytes;
                let n = (cached.rows.len() - start).min(bytes.len() - done);
                bytes[done..done + n].copy_from_slice(&cached.rows[start..start + n]);
                done += n;
            }
            Ok(())
        })
    }

    fn load(
        &self,
        cached: &mut Cached,
        file: &SourceFile,
        layout: &Layout,
        frame: usize,
    ) -> Result<()> {
        if cached.of == Some((self.id, frame)) {
            return Ok(());
        }
        cached.of = None;
        let first = frame as u64 * self.rows;
        let n_rows = self.rows.min(layout.n_rows() - first);
        let start = frame.checked_sub(1).map_or(0, |before| self.ends[before]);
        cached.packed.resize(to_usize(self.ends[frame] - start), 0);
        file.read_exact_at(&mut cached.packed, layout.row_offset(0) + start)?;
        let n_bytes = to_usize(n_rows * layout.row_bytes());
        cached.rows.resize(n_bytes, 0);
        cached.planes.resize(n_bytes, 0);
        let unpacked = Decompressor::new()
            .and_then(|mut zstd| zstd.decompress_to_buffer(&cached.packed, &mut cached.planes[..]));
        if !matches!(unpacked, Ok(n) if n == n_bytes) {
            let got = unpacked.map_or_else(|error| error.to_string(), |n| format!("{n} bytes"));
            let rows = format!("rows {first} to {}", first + n_rows - 1);
            let expected = format!("{rows}, {n_bytes} bytes in a zstd frame");
            return Err(Error::format(file.path(), expected, got));
        }
        join(&cached.planes, layout.format().dtype.size(), &mut cached.rows);
        cached.of = Some((self.id, frame));
        Ok(())
    }
}

/// Puts the first bytes of all elements together, then the second ones, and so on: those of one
/// significance are alike.
fn split(elements: &[u8], size: usize, planes: &mut [u8]) {
    let n = elements.len() / size;
    for (byte, plane) in planes.chunks_exact_mut(n.max(1)).enumerate() {
        for (out, element) in plane.iter_mut().zip(elements.chunks_exact(size)) {
            *out = element[byte];
        }
    }
}

/// The reverse of [`split`].
fn join(planes: &[u8], size: usize, elements: &mut [u8]) {
    let n = planes.len() / size;
    for (byte, plane) in planes.chunks_exact(n.max(1)).enumerate() {
        for (element, value) in elements.chunks_exact_mut(size).zip(plane) {
            element[byte] = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_back_in_order(elements in 0..50_usize, size in 1..9_usize, seed: u8) {
            let bytes: Vec<u8> = (0..elements * size).map(|i| (i as u8).wrapping_mul(seed)).collect();
            let (mut planes, mut back) = (vec![0; bytes.len()], vec![0; bytes.len()]);
            split(&bytes, size, &mut planes);
            join(&planes, size, &mut back);
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn names_are_read_strictly(text in "(zstd|gzip|)(:[-0-9]{0,3})?") {
            match text.parse::<Compression>() {
                Ok(compression) => {
                    prop_assert!((1..=22).contains(&compression.level));
                    prop_assert_eq!(compression.to_string().parse::<Compression>().unwrap(), compression);
                }
                Err(error) => {
                    let level = text.strip_prefix("zstd:").and_then(|level| level.parse().ok());
                    prop_assert!(text != "zstd" && !level.is_some_and(|l: i32| (1..=22).contains(&l)));
                    prop_assert!(error.to_string().contains("expected zstd or zstd:LEVEL"));
                }
            }
        }
    }
}

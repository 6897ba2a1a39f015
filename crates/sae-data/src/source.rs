//! A file opened read-only whose every read checks that the file is still the one that was opened.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// Bytes hashed at a time.
const HASH_CHUNK: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct SourceFile {
    path: PathBuf,
    file: File,
    len: u64,
    modified: SystemTime,
}

impl SourceFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // Asked before it is opened: to open a pipe waits for a writer.
        let metadata = path.metadata().map_err(Error::io(path))?;
        if !metadata.is_file() {
            let got = if metadata.is_dir() { "a directory" } else { "a special file" };
            return Err(Error::format(path, "a file", got));
        }
        let file = File::open(path).map_err(Error::io(path))?;
        let metadata = file.metadata().map_err(Error::io(path))?;
        let modified = metadata.modified().map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), file, len: metadata.len(), modified })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// What tells one state of the file from another on the same disk: length, time of modification,
    /// which programs can set, and inode and time of change, which they cannot.
    pub(crate) fn stamp(&self) -> Result<String> {
        let now = self.file.metadata().map_err(Error::io(&self.path))?;
        let (inode, seconds, nanos) = (now.ino(), now.ctime(), now.ctime_nsec());
        let known = stamp(self.len, self.modified);
        Ok(format!("{known}, inode {inode}, changed {seconds}.{nanos:09}"))
    }

    /// Fills `bytes` from `offset`.
    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.check_unchanged()?;
        match self.file.read_exact_at(bytes, offset) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.check_unchanged()?;
                let expected = offset.saturating_add(bytes.len() as u64);
                Err(Error::Length { path: self.path.clone(), expected, got: self.len })
            }
            Err(e) => Err(Error::io(&self.path)(e)),
        }
    }

    /// BLAKE3 of the whole file, in hexadecimal.
    pub(crate) fn blake3(&self) -> Result<String> {
        self.blake3_from(0)
    }

    /// BLAKE3 of all bytes from `offset` on, in hexadecimal.
    pub(crate) fn blake3_from(&self, mut offset: u64) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let mut bytes = vec![0; HASH_CHUNK];
        while offset < self.len {
            let n = usize::try_from(self.len - offset).map_or(HASH_CHUNK, |n| n.min(HASH_CHUNK));
            self.read_exact_at(&mut bytes[..n], offset)?;
            hasher.update(&bytes[..n]);
            offset += n as u64;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    fn check_unchanged(&self) -> Result<()> {
        let now = self.file.metadata().map_err(Error::io(&self.path))?;
        let modified = now.modified().map_err(Error::io(&self.path))?;
        if now.len() == self.len && modified == self.modified {
            return Ok(());
        }
        Err(Error::Changed {
            path: self.path.clone(),
            expected: stamp(self.len, self.modified),
            got: stamp(Metadata::len(&now), modified),
        })
    }
}

fn stamp(len: u64, modified: SystemTime) -> String {
    let seconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{len} bytes of {}.{:09}", seconds.as_secs(), seconds.subsec_nanos())
}

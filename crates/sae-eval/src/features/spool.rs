//! The codes of a pass in a temporary file, row by row, to be read again.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Bytes read and written at a time.
const BUFFER: usize = 1 << 20;

/// Writes codes to a file that has no name, so that nothing of it is left however the process ends.
#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<File>,
    folder: PathBuf,
    codes: Counts,
}

/// How many codes there are.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    /// Rows.
    pub(super) n_rows: u64,
    /// Codes.
    pub(super) n_codes: u64,
    /// Σ over rows of the square of their number of codes.
    pub(super) n_pairs: f64,
    /// Codes of each feature.
    pub(super) of_features: Vec<u64>,
}

impl Spool {
    /// A file in `folder`.
    pub(super) fn new(folder: &Path, n_features: usize) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(failed(folder))?;
        let of_features = vec![0; n_features];
        let codes = Counts { n_rows: 0, n_codes: 0, n_pairs: 0.0, of_features };
        Ok(Self { file: BufWriter::with_capacity(BUFFER, file), folder: folder.into(), codes })
    }

    /// Rows so far.
    pub(super) fn n_rows(&self) -> u64 {
        self.codes.n_rows
    }

    /// Size of the dictionary.
    pub(super) fn n_features(&self) -> usize {
        self.codes.of_features.len()
    }

    /// Adds a row: its active features and their activations.
    pub(super) fn append(&mut self, features: &[u32], values: &[f32]) -> Result<()> {
        let n = features.len();
        let parts = [&(n as u32).to_le_bytes(), bytemuck::cast_slice(features)];
        for part in parts.into_iter().chain([bytemuck::cast_slice(values)]) {
            self.file.write_all(part).map_err(failed(&self.folder))?;
        }
        for &feature in features {
            self.codes.of_features[feature as usize] += 1;
        }
        self.codes.n_rows += 1;
        self.codes.n_codes += n as u64;
        self.codes.n_pairs += (n as f64) * (n as f64);
        Ok(())
    }

    /// Ends writing.
    pub(super) fn finish(self) -> Result<Codes> {
        let Self { file, folder, codes } = self;
        let file = file.into_inner().map_err(|e| failed(&folder)(e.into_error()))?;
        Ok(Codes { file, folder, counts: codes })
    }
}

/// Codes that were written, to be read in order any number of times.
#[derive(Debug)]
pub(super) struct Codes {
    file: File,
    folder: PathBuf,
    pub(super) counts: Counts,
}

impl Codes {
    /// Calls `found` with every row: its number, its active features and their activations.
    pub(super) fn for_each_row(&self, mut found: impl FnMut(u64, &[u32], &[f32])) -> Result<()> {
        let failed = failed(&self.folder);
        (&self.file).rewind().map_err(&failed)?;
        let mut file = BufReader::with_capacity(BUFFER, &self.file);
        let mut words: Vec<u32> = Vec::new();
        for row in 0..self.counts.n_rows {
            let mut n = [0; 4];
            file.read_exact(&mut n).map_err(&failed)?;
            let n = u32::from_le_bytes(n) as usize;
            words.resize(2 * n, 0);
            file.read_exact(bytemuck::cast_slice_mut(&mut words)).map_err(&failed)?;
            let (features, values) = words.split_at(n);
            found(row, features, bytemuck::cast_slice(values));
        }
        Ok(())
    }
}

fn failed(folder: &Path) -> impl Fn(std::io::Error) -> Error {
    |source| Error::Spool { folder: folder.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_come_back_as_they_were_and_are_counted(
            rows in prop::collection::vec(prop::collection::btree_map(0u32..7, -2.0f32..2.0, 0..5), 0..20),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut spool = Spool::new(folder.path(), 7).unwrap();
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
            for row in &rows {
                let (features, values): (Vec<_>, Vec<_>) = row.iter().map(|(f, v)| (*f, *v)).unzip();
                spool.append(&features, &values).unwrap();
            }
            let codes = spool.finish().unwrap();
            for _ in 0..2 {
                let mut read: Vec<std::collections::BTreeMap<u32, f32>> = Vec::new();
                codes.for_each_row(|row, features, values| {
                    assert_eq!(row as usize, read.len());
                    read.push(features.iter().copied().zip(values.iter().copied()).collect());
                }).unwrap();
                prop_assert_eq!(&read, &rows);
            }
            let counts = &codes.counts;
            prop_assert_eq!(counts.n_rows as usize, rows.len());
            prop_assert_eq!(counts.n_codes as usize, rows.iter().map(|row| row.len()).sum::<usize>());
            let pairs: usize = rows.iter().map(|row| row.len() * row.len()).sum();
            prop_assert_eq!(counts.n_pairs, pairs as f64);
            for feature in 0..7u32 {
                let n = rows.iter().filter(|row| row.contains_key(&feature)).count();
                prop_assert_eq!(counts.of_features[feature as usize] as usize, n);
            }
        }
    }
}

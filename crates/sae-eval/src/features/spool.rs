//! The codes of a pass in a file, row by row, to be read again; what is saved of it outlives the process.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytemuck::{Pod, Zeroable};
use sae_data::RowMeta;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Bytes read and written at a time.
const BUFFER: usize = 1 << 20;

/// The file of the codes.
const CODES: &str = "codes";

/// The file that says how far it is.
const SAVED: &str = "saved.json";

/// What is kept of a row beside its codes.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Row {
    /// k̂; NaN where the architecture has none.
    pub(super) k_hat: f64,
    pub(super) norm: f32,
    n: u32,
    pub(super) meta: [u32; 3],
    unused: u32,
}

impl Row {
    pub(super) fn new(norm: f32, k_hat: Option<f64>, meta: RowMeta) -> Self {
        let meta = [meta.token_id, meta.document, meta.position];
        Self { k_hat: k_hat.unwrap_or(f64::NAN), norm, n: 0, meta, unused: 0 }
    }

    pub(super) fn meta(&self) -> RowMeta {
        let [token_id, document, position] = self.meta;
        RowMeta { token_id, document, position }
    }
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

/// Up to where the file is saved, and where its source was then.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    pub(super) rows: u64,
    bytes: u64,
    pub(super) source: Option<serde_json::Value>,
}

/// Writes codes to a file.
#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<File>,
    folder: PathBuf,
    codes: Counts,
    bytes: u64,
    saved: Saved,
}

impl Spool {
    /// The file in `folder`, with the rows that an earlier process has saved there, each of which
    /// `found` is given.
    pub(super) fn open(
        folder: &Path,
        n_features: usize,
        mut found: impl FnMut(&Row, &[u32]),
    ) -> Result<Self> {
        let failed = failed(folder);
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        let file = options.open(folder.join(CODES)).map_err(&failed)?;
        let read: Option<Saved> = sae_config::read_json(&folder.join(SAVED)).ok();
        let length = file.metadata().map_err(&failed)?.len();
        let saved = read.filter(|saved| saved.bytes <= length).unwrap_or_default();
        let mut codes = Counts {
            n_rows: saved.rows,
            n_codes: 0,
            n_pairs: 0.0,
            of_features: vec![0; n_features],
        };
        let counted = Codes { file, folder: folder.into(), counts: codes.clone() };
        let mut bytes = 0;
        counted.for_each(|_, row, features, _| {
            bytes += bytes_of(features.len());
            codes.count(features);
            found(row, features);
        })?;
        let mut file = counted.file;
        file.set_len(saved.bytes).map_err(&failed)?;
        file.seek(SeekFrom::Start(saved.bytes)).map_err(&failed)?;
        if bytes != saved.bytes {
            let got = format!("{}: expected {} bytes of rows, got {bytes}", CODES, saved.bytes);
            return Err(failed(std::io::Error::other(got)));
        }
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Self { file, folder: folder.into(), codes, bytes, saved })
    }

    /// Rows so far.
    pub(super) fn n_rows(&self) -> u64 {
        self.codes.n_rows
    }

    /// Size of the dictionary.
    pub(super) fn n_features(&self) -> usize {
        self.codes.of_features.len()
    }

    /// Up to where it is saved.
    pub(super) fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Adds a row: its active features and their activations.
    pub(super) fn append(&mut self, row: Row, features: &[u32], values: &[f32]) -> Result<()> {
        let row = Row { n: features.len() as u32, ..row };
        let parts = [bytemuck::bytes_of(&row), bytemuck::cast_slice(features)];
        for part in parts.into_iter().chain([bytemuck::cast_slice(values)]) {
            self.file.write_all(part).map_err(failed(&self.folder))?;
        }
        self.bytes += bytes_of(features.len());
        self.codes.n_rows += 1;
        self.codes.count(features);
        Ok(())
    }

    /// Saves what there is, and where its source is.
    pub(super) fn save(&mut self, source: Option<serde_json::Value>) -> Result<()> {
        let failed = failed(&self.folder);
        self.file.flush().map_err(&failed)?;
        self.file.get_ref().sync_data().map_err(&failed)?;
        self.saved = Saved { rows: self.codes.n_rows, bytes: self.bytes, source };
        let written = sae_config::write_json(&self.folder.join(SAVED), &self.saved);
        written.map_err(|error| failed(std::io::Error::other(error)))
    }

    /// Ends writing.
    pub(super) fn finish(self) -> Result<Codes> {
        let Self { file, folder, codes, .. } = self;
        let file = file.into_inner().map_err(|e| failed(&folder)(e.into_error()))?;
        Ok(Codes { file, folder, counts: codes })
    }
}

impl Counts {
    fn count(&mut self, features: &[u32]) {
        let n = features.len();
        for &feature in features {
            self.of_features[feature as usize] += 1;
        }
        self.n_codes += n as u64;
        self.n_pairs += (n as f64) * (n as f64);
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
        self.for_each(|number, _, features, values| found(number, features, values))
    }

    fn for_each(&self, mut found: impl FnMut(u64, &Row, &[u32], &[f32])) -> Result<()> {
        let failed = failed(&self.folder);
        (&self.file).rewind().map_err(&failed)?;
        let mut file = BufReader::with_capacity(BUFFER, &self.file);
        let mut words: Vec<u32> = Vec::new();
        for number in 0..self.counts.n_rows {
            let mut row = Row::zeroed();
            file.read_exact(bytemuck::bytes_of_mut(&mut row)).map_err(&failed)?;
            let (n, n_features) = (row.n as usize, self.counts.of_features.len());
            if n <= n_features {
                words.resize(2 * n, 0);
                file.read_exact(bytemuck::cast_slice_mut(&mut words)).map_err(&failed)?;
            }
            let (features, values) = words.split_at(words.len() / 2);
            if n > n_features || features.iter().any(|feature| *feature as usize >= n_features) {
                let got = format!("{CODES}, row {number}: expected features below {n_features}");
                return Err(failed(std::io::Error::other(got)));
            }
            found(number, &row, features, bytemuck::cast_slice(values));
        }
        Ok(())
    }
}

/// Bytes of a row of so many codes.
const fn bytes_of(n: usize) -> u64 {
    (size_of::<Row>() + 8 * n) as u64
}

fn failed(folder: &Path) -> impl Fn(std::io::Error) -> Error {
    |source| Error::Spool { folder: folder.to_owned(), source }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Rows of codes of so many features.
    pub(in super::super) fn spool(folder: &Path, n: usize, rows: &[BTreeMap<u32, f32>]) -> Spool {
        let mut spool = Spool::open(folder, n, |_, _| ()).unwrap();
        for codes in &rows[spool.n_rows() as usize..] {
            let (features, values): (Vec<_>, Vec<_>) = codes.iter().map(|(f, v)| (*f, *v)).unzip();
            let meta = RowMeta { token_id: 7, document: 1, position: spool.n_rows() as u32 };
            let row = Row::new(spool.n_rows() as f32, Some(1.5), meta);
            spool.append(row, &features, &values).unwrap();
        }
        spool
    }

    proptest! {
        /// Whatever was written after what was saved is written again.
        #[test]
        fn rows_come_back_as_they_were_and_are_counted(
            rows in prop::collection::vec(prop::collection::btree_map(0u32..7, -2.0f32..2.0, 0..5), 0..20),
            saved in 0usize..20, lost in 0usize..9,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let saved = saved.min(rows.len());
            let mut first = spool(folder.path(), 7, &rows[..saved]);
            first.save(Some(saved.into())).unwrap();
            drop(first);
            drop(spool(folder.path(), 7, &rows[..(saved + lost).min(rows.len())]));
            let mut found = Vec::new();
            let again = Spool::open(folder.path(), 7, |row, features| found.push((*row, features.len()))).unwrap();
            prop_assert_eq!(again.saved().source.clone(), Some(saved.into()));
            prop_assert_eq!(again.n_rows() as usize, saved);
            drop(again);
            for (number, (row, n)) in found.iter().enumerate() {
                prop_assert_eq!((row.norm, row.k_hat, *n), (number as f32, 1.5, rows[number].len()));
                prop_assert_eq!(row.meta(), RowMeta { token_id: 7, document: 1, position: number as u32 });
            }
            let codes = spool(folder.path(), 7, &rows).finish().unwrap();
            for _ in 0..2 {
                let mut read: Vec<BTreeMap<u32, f32>> = Vec::new();
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

    #[test]
    fn codes_of_other_features_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [[(2, 1.0)].into(), [(6, 1.0), (3, 2.0)].into()];
        spool(folder.path(), 7, &rows).save(None).unwrap();
        assert!(Spool::open(folder.path(), 7, |_, _| ()).is_ok());
        for n_features in [1, 6] {
            let error = Spool::open(folder.path(), n_features, |_, _| ()).unwrap_err();
            assert!(error.to_string().contains("expected features below"), "{error}");
        }
        // What is shorter than what was saved is begun anew.
        let file = File::options().write(true).open(folder.path().join(CODES)).unwrap();
        file.set_len(40).unwrap();
        assert_eq!(Spool::open(folder.path(), 7, |_, _| ()).unwrap().n_rows(), 0);
    }
}

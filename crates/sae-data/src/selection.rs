//! Some rows of a store as a store: by index, by what is known of them, by norm.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::norms::{median_norm, norms, sorted};
use crate::store::{check_all_rows, check_range, check_rows, to_usize};
use crate::{ActivationStore, Dtype, Error, Provenance, Result, RowMeta};

/// Row metadata read at a time.
pub(crate) const META_AT_ONCE: u64 = 1 << 16;

/// Some rows of a store, in any order.
///
/// Memory is 16 bytes for each stretch of rows that follow one another in the store.
#[derive(Debug)]
pub struct Selection {
    store: Arc<dyn ActivationStore>,
    stretches: Vec<Stretch>,
    n_rows: u64,
}

/// Rows that follow one another both here and in the store.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// The first one's number here.
    here: u64,
    /// Its number in the store.
    there: u64,
}

impl Selection {
    /// The rows with these numbers, in this order; a number may come more than once.
    ///
    /// # Errors
    /// No numbers, or one that is outside the store.
    pub fn by_index(
        store: Arc<dyn ActivationStore>,
        rows: impl IntoIterator<Item = u64>,
    ) -> Result<Self> {
        let (mut stretches, mut n_rows): (Vec<Stretch>, u64) = (Vec::new(), 0);
        for row in rows {
            check_range(&*store, row, 1)?;
            let follows = |last: &Stretch| last.there + (n_rows - last.here) == row;
            if !stretches.last().is_some_and(follows) {
                stretches.push(Stretch { here: n_rows, there: row });
            }
            n_rows += 1;
        }
        if n_rows == 0 {
            return Err(Error::value("selection", "at least one row", "none"));
        }
        Ok(Self { store, stretches, n_rows })
    }

    /// The rows of whose token, document and position `keep` says yes.
    ///
    /// # Errors
    /// [`Error::NoMetadata`] for a store that does not know them; no row kept.
    pub fn by_meta(
        store: Arc<dyn ActivationStore>,
        keep: impl Fn(&RowMeta) -> bool,
    ) -> Result<Self> {
        let (mut rows, mut start) = (Vec::new(), 0);
        while start < store.n_rows() {
            let n = META_AT_ONCE.min(store.n_rows() - start);
            let mut meta = vec![RowMeta::default(); to_usize(n)];
            store.read_meta(start, &mut meta)?;
            rows.extend((start..).zip(&meta).filter(|(_, m)| keep(m)).map(|(row, _)| row));
            start += n;
        }
        Self::by_index(store, rows)
    }

    /// The rows whose norm is at most `max_norm_ratio` times the median norm of those rows that are
    /// not zero. Rows of zeros are kept and do not count: a store may be padded with them.
    ///
    /// Language models have a few positions (the first token, some delimiters) whose norm is
    /// hundreds of times that of all others; left in, they decide mean and scale.
    ///
    /// # Errors
    /// A ratio that is not finite or below 1; rows that cannot be read; a store of zeros.
    pub fn by_norm(store: Arc<dyn ActivationStore>, max_norm_ratio: f64) -> Result<Self> {
        if !(max_norm_ratio.is_finite() && max_norm_ratio >= 1.0) {
            return Err(Error::value("max_norm_ratio", "at least 1", max_norm_ratio));
        }
        let norms = norms(&*store)?;
        let median = median_norm(&sorted(&norms)).ok_or_else(|| {
            let (path, _) = store.locate(0);
            Error::format(&path, "a row that is not zero, for max_norm_ratio", "zeros only")
        })?;
        let limit = max_norm_ratio * median;
        let rows = (0..).zip(&norms).filter(|(_, norm)| f64::from(**norm) <= limit);
        Self::by_index(store, rows.map(|(row, _)| row).collect::<Vec<_>>())
    }

    /// The rows of the same numbers of another store.
    ///
    /// # Errors
    /// A store with another number of rows.
    pub fn of_same_rows(&self, store: Arc<dyn ActivationStore>) -> Result<Self> {
        let (expected, got) = (self.store.n_rows(), store.n_rows());
        if expected != got {
            let (path, _) = store.locate(0);
            return Err(Error::format(&path, format!("{expected} rows"), got));
        }
        Ok(Self { store, stretches: self.stretches.clone(), n_rows: self.n_rows })
    }

    /// Calls `read` for each stretch of rows `start..start + n` that lies together in the store:
    /// the first row in it, the number of rows, and how many came before.
    fn for_each_stretch(
        &self,
        start: u64,
        n: u64,
        mut read: impl FnMut(u64, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let mut i = self.stretch(start);
        let mut done = 0;
        while done < n {
            let row = start + done;
            let end = self.stretches.get(i + 1).map_or(self.n_rows, |next| next.here);
            let n_here = (end - row).min(n - done);
            let there = self.stretches[i].there + (row - self.stretches[i].here);
            read(there, to_usize(n_here), to_usize(done))?;
            done += n_here;
            i += 1;
        }
        Ok(())
    }

    /// The number in the store of a row.
    fn there(&self, row: u64) -> u64 {
        let stretch = self.stretches[self.stretch(row)];
        stretch.there + row.saturating_sub(stretch.here)
    }

    fn stretch(&self, row: u64) -> usize {
        self.stretches.partition_point(|s| s.here <= row).saturating_sub(1)
    }
}

impl ActivationStore for Selection {
    fn n_rows(&self) -> u64 {
        self.n_rows
    }

    fn d_model(&self) -> usize {
        self.store.d_model()
    }

    fn dtype(&self) -> Dtype {
        self.store.dtype()
    }

    fn read_rows_raw(&self, start: u64, out: &mut [f32]) -> Result<()> {
        let n = check_rows(self, start, out.len())?;
        let d_model = self.d_model();
        self.for_each_stretch(start, n, |row, n, done| {
            self.store.read_rows_raw(row, &mut out[done * d_model..][..n * d_model])
        })
    }

    fn read_meta(&self, start: u64, out: &mut [RowMeta]) -> Result<()> {
        let n = out.len() as u64;
        check_range(self, start, n)?;
        self.for_each_stretch(start, n, |row, n, done| {
            self.store.read_meta(row, &mut out[done..][..n])
        })
    }

    fn provenance(&self) -> Option<&Provenance> {
        self.store.provenance()
    }

    fn provenances(&self) -> Vec<&Provenance> {
        self.store.provenances()
    }

    fn locate(&self, row: u64) -> (PathBuf, u64) {
        self.store.locate(self.there(row))
    }

    fn refuse(&self, row: u64, column: usize, got: f32) -> Error {
        self.store.refuse(self.there(row), column, got)
    }

    fn path(&self) -> Option<&Path> {
        self.store.path()
    }

    fn content_hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let hash = self.store.content_hash()?;
        hasher.update(format!("{} rows of {hash}\n", self.n_rows).as_bytes());
        for stretch in &self.stretches {
            hasher.update(&stretch.here.to_le_bytes());
            hasher.update(&stretch.there.to_le_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    fn verify(&self) -> Result<()> {
        check_all_rows(self)
    }
}

//! Several stores read as one, each as often as its weight says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::{check_range, check_rows, to_usize};
use crate::{ActivationStore, Dtype, Error, Provenance, Result, RowMeta};

/// Stores one after another.
///
/// A store of n rows and weight w has round(w·n) rows in the whole: ⌊w⌋ times all of them, then
/// the rest spread evenly over them. An epoch thus sees each row ⌊w⌋ or ⌈w⌉ times.
#[derive(Debug)]
pub struct Concatenation {
    parts: Vec<Part>,
    n_rows: u64,
    path: Option<PathBuf>,
}

#[derive(Debug)]
struct Part {
    store: Arc<dyn ActivationStore>,
    /// First row of the part in the whole.
    start: u64,
    /// Rows of the part in the whole.
    n_rows: u64,
}

impl Concatenation {
    /// Joins stores of one dimension, each with its weight.
    ///
    /// # Errors
    /// No stores, different dimensions, a weight that is not positive and finite, or so small that
    /// no row of its store is left.
    pub fn new(stores: Vec<(Arc<dyn ActivationStore>, f64)>) -> Result<Self> {
        let Some((first, _)) = stores.first() else {
            return Err(Error::value("stores", "at least one store", 0));
        };
        let d_model = first.d_model();
        let (mut parts, mut start) = (Vec::new(), 0_u64);
        for (i, (store, weight)) in stores.into_iter().enumerate() {
            if store.d_model() != d_model {
                let (path, _) = store.locate(0);
                let expected = format!("d_model {d_model}, as in the first store");
                return Err(Error::format(&path, expected, store.d_model()));
            }
            let n_rows = weighted_rows(store.n_rows(), weight)
                .filter(|_| store.n_rows() > 0)
                .ok_or_else(|| {
                    let expected = format!("a positive share of {} rows", store.n_rows());
                    Error::value(format!("weight of store {i}"), expected, weight)
                })?;
            parts.push(Part { store, start, n_rows });
            start = start
                .checked_add(n_rows)
                .ok_or_else(|| Error::value("stores", "rows that fit 64 bits", "more"))?;
        }
        Ok(Self { parts, n_rows: start, path: None })
    }

    /// Names the directory that all stores came from.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Calls `read` for each stretch of rows `start..start + n` that lies together in one store:
    /// the store, the first row in it, the number of rows, and how many came before.
    fn for_each_stretch(
        &self,
        start: u64,
        n: u64,
        mut read: impl FnMut(&dyn ActivationStore, u64, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < n {
            let part = self.part(start + done);
            let (row, together) = part.place(start + done - part.start);
            let here = together.min(n - done);
            read(&*part.store, row, to_usize(here), to_usize(done))?;
            done += here;
        }
        Ok(())
    }

    fn part(&self, row: u64) -> &Part {
        &self.parts[self.parts.partition_point(|part| part.start <= row) - 1]
    }
}

impl Part {
    /// The store's row for row `i` of the part, and how many follow it in both.
    fn place(&self, i: u64) -> (u64, u64) {
        let n = self.store.n_rows();
        let whole = self.n_rows / n * n;
        if i < whole {
            return (i % n, n - i % n);
        }
        (spread(i - whole, self.n_rows - whole, n), 1)
    }
}

impl ActivationStore for Concatenation {
    fn n_rows(&self) -> u64 {
        self.n_rows
    }

    fn d_model(&self) -> usize {
        self.parts[0].store.d_model()
    }

    /// The narrowest type that holds the values of all stores.
    fn dtype(&self) -> Dtype {
        let dtypes = self.parts.iter().map(|part| part.store.dtype());
        dtypes.reduce(Dtype::common).unwrap_or_default()
    }

    fn read_rows_raw(&self, start: u64, out: &mut [f32]) -> Result<()> {
        let n = check_rows(self, start, out.len())?;
        let d_model = self.d_model();
        self.for_each_stretch(start, n, |store, row, n, done| {
            store.read_rows_raw(row, &mut out[done * d_model..][..n * d_model])
        })
    }

    fn read_meta(&self, start: u64, out: &mut [RowMeta]) -> Result<()> {
        let n = out.len() as u64;
        check_range(self, start, n)?;
        self.for_each_stretch(start, n, |store, row, n, done| {
            store.read_meta(row, &mut out[done..][..n])
        })
    }

    fn provenance(&self) -> Option<&Provenance> {
        let first = self.parts[0].store.provenance()?;
        self.parts.iter().all(|part| part.store.provenance() == Some(first)).then_some(first)
    }

    fn provenances(&self) -> Vec<&Provenance> {
        self.parts.iter().flat_map(|part| part.store.provenances()).collect()
    }

    fn locate(&self, row: u64) -> (PathBuf, u64) {
        let part = self.part(row.min(self.n_rows - 1));
        part.store.locate(part.place(row - part.start).0)
    }

    fn refuse(&self, row: u64, column: usize, got: f32) -> Error {
        let part = self.part(row);
        part.store.refuse(part.place(row - part.start).0, column, got)
    }

    fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn content_hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for part in &self.parts {
            let hash = part.store.content_hash()?;
            hasher.update(format!("{} rows of {hash}\n", part.n_rows).as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    fn content_hashes(&self) -> Result<Vec<String>> {
        let hashes = self.parts.iter().map(|part| part.store.content_hashes());
        Ok(hashes.collect::<Result<Vec<_>>>()?.concat())
    }

    fn verify(&self) -> Result<()> {
        self.parts.iter().try_for_each(|part| part.store.verify())
    }
}

/// round(w·n) where it is a number of rows.
fn weighted_rows(n: u64, weight: f64) -> Option<u64> {
    if weight == 1.0 {
        return Some(n);
    }
    let rows = (weight * n as f64).round();
    (weight > 0.0 && rows >= 1.0 && rows < 2f64.powi(53)).then_some(rows as u64)
}

/// Element `i` of `m` numbers spread evenly over `0..n`: ⌊i·n/m⌋.
fn spread(i: u64, m: u64, n: u64) -> u64 {
    let place = u128::from(i) * u128::from(n) / u128::from(m);
    u64::try_from(place).expect("below n, which is a u64")
}

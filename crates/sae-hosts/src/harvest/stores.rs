//! The stores of a harvest: one a hook point, with the same rows in the same order.

use std::path::{Path, PathBuf};

use sae_data::{RowMeta, StoreSpec, StoreWriter};

use super::append;
use crate::{Error, HookPoint, Result};

/// The stores of a harvest.
#[derive(Debug)]
pub(super) struct Stores {
    stores: Vec<Store>,
    first: PathBuf,
}

#[derive(Debug)]
struct Store {
    /// Absent where an earlier harvest has finished the store.
    writer: Option<StoreWriter>,
    /// Rows that an earlier harvest has left, and that have not come again.
    present: u64,
}

impl Stores {
    /// Begins the store of each hook point, or goes on with it; `spec` is what it will hold.
    pub(super) fn resume(
        places: &[(HookPoint, &Path)],
        spec: impl Fn(HookPoint) -> Result<StoreSpec>,
    ) -> Result<Self> {
        let Some((_, first)) = places.first() else {
            return Err(Error::input("hook points", "at least one", "none"));
        };
        // Before any of them is begun.
        for (i, (hook, out)) in places.iter().enumerate() {
            if let Some((other, _)) = places[..i].iter().find(|(h, o)| h == hook || o == out) {
                let expected = "hook points that differ, with a store each";
                return Err(Error::input("hook points", expected, format!("{other} and {hook}")));
            }
        }
        let mut stores = Vec::new();
        for (hook, out) in places {
            let writer = StoreWriter::resume_unfinished(out, spec(*hook)?)?;
            let present = writer.as_ref().map_or(0, StoreWriter::n_rows);
            stores.push(Store { writer, present });
        }
        if stores.iter().all(|store| store.writer.is_none()) {
            let (path, got) = (first.to_path_buf(), "a finished one".to_owned());
            let expected = "an unfinished store".to_owned();
            return Err(Error::Store(sae_data::Error::Format { path, expected, got }));
        }
        Ok(Self { stores, first: first.to_path_buf() })
    }

    /// Passes over the next `n_rows` rows where all stores have them.
    pub(super) fn pass_over(&mut self, n_rows: u64) -> bool {
        let mut unfinished: Vec<_> =
            self.stores.iter_mut().filter(|store| store.writer.is_some()).collect();
        let are_present = unfinished.iter().all(|store| store.present >= n_rows);
        if are_present {
            unfinished.iter_mut().for_each(|store| store.present -= n_rows);
        }
        are_present
    }

    /// Appends the rows of each hook point to the stores that do not have them.
    pub(super) fn append(&mut self, rows: &[Vec<f32>], meta: &[RowMeta]) -> Result<()> {
        for (Store { writer, present }, rows) in self.stores.iter_mut().zip(rows) {
            if let Some(writer) = writer {
                append(writer, present, rows, meta)?;
            }
        }
        Ok(())
    }

    /// Rows in the store that has the fewest.
    pub(super) fn n_rows(&self) -> u64 {
        let writers = self.stores.iter().filter_map(|store| store.writer.as_ref());
        writers.map(StoreWriter::n_rows).min().unwrap_or(0)
    }

    /// The first of them.
    pub(super) fn first(&self) -> &Path {
        &self.first
    }

    /// Finishes them, one after the other.
    pub(super) fn finish(self) -> Result<()> {
        for writer in self.stores.into_iter().filter_map(|store| store.writer) {
            writer.finish()?;
        }
        Ok(())
    }
}

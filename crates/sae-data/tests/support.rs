//! Small stores that tests read back.

use std::path::Path;
use std::sync::Arc;

use sae_data::{ActivationStore, Dtype, RowMeta, StoreSpec, StoreWriter, open_store};

/// A value that f16 and bf16 hold exactly and that tells rows apart: no two of 2^14 rows agree.
pub(crate) fn value(row: u64, column: usize) -> f32 {
    let digit = (row >> (7 * (column % 2))) & 127;
    digit as f32 + 1.0
}

pub(crate) fn row(i: u64, d_model: usize) -> Vec<f32> {
    (0..d_model).map(|column| value(i, column)).collect()
}

pub(crate) fn rows(range: std::ops::Range<u64>, d_model: usize) -> Vec<f32> {
    range.flat_map(|i| row(i, d_model)).collect()
}

pub(crate) fn meta(range: std::ops::Range<u64>) -> Vec<RowMeta> {
    let of = |i: u64| RowMeta {
        token_id: (i * 7) as u32,
        document: (i / 10) as u32,
        position: (i % 10) as u32,
    };
    range.map(of).collect()
}

/// The row number that `row` was made of.
pub(crate) fn number(row: &[f32]) -> u64 {
    (row[0] - 1.0) as u64 + (((row[1] - 1.0) as u64) << 7)
}

pub(crate) fn spec(d_model: usize, rows_per_shard: u64, dtype: Dtype) -> StoreSpec {
    StoreSpec { rows_per_shard, ..StoreSpec::new(d_model, dtype) }
}

/// Writes rows `0..n_rows` in pieces of 7.
pub(crate) fn write_store(dir: &Path, n_rows: u64, spec: StoreSpec) {
    let d_model = spec.d_model;
    let mut writer = StoreWriter::create(dir, spec).unwrap();
    append(&mut writer, 0..n_rows, d_model);
    writer.finish().unwrap();
}

pub(crate) fn append(writer: &mut StoreWriter, range: std::ops::Range<u64>, d_model: usize) {
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + 7);
        writer.append(&rows(start..end, d_model), &meta(start..end)).unwrap();
        start = end;
    }
}

pub(crate) fn store(
    dir: &Path,
    n_rows: u64,
    d_model: usize,
    rows_per_shard: u64,
) -> Arc<dyn ActivationStore> {
    write_store(dir, n_rows, spec(d_model, rows_per_shard, Dtype::F32));
    open_store(dir).unwrap()
}

pub(crate) fn read_all(store: &dyn ActivationStore) -> Vec<f32> {
    let mut out = vec![0.0; store.n_rows() as usize * store.d_model()];
    store.read_rows(0, &mut out).unwrap();
    out
}

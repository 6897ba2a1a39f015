//! Files of rows.

use std::fs;
use std::path::Path;

/// A `.npy` file of noise.
pub(crate) fn write(path: &Path, n_rows: usize, width: usize, seed: u64) {
    write_with(path, n_rows, width, seed, None);
}

/// The same with another value at a row and column.
pub(crate) fn write_with(
    path: &Path,
    n_rows: usize,
    width: usize,
    seed: u64,
    other: Option<(usize, usize, f32)>,
) {
    let mut values = noise(n_rows * width, seed);
    if let Some((row, column, value)) = other {
        values[row * width + column] = value;
    }
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    save(path, "<f4", n_rows, width, bytes);
}

/// Rows that are all the same.
pub(crate) fn write_constant(path: &Path, n_rows: usize, width: usize, value: f32) {
    let bytes = (0..n_rows * width).flat_map(|_| value.to_le_bytes());
    save(path, "<f4", n_rows, width, bytes);
}

/// The same rows as of [`write`], in double precision.
pub(crate) fn write_f64(path: &Path, n_rows: usize, width: usize, seed: u64) {
    let values = noise(n_rows * width, seed);
    let bytes = values.iter().flat_map(|value| f64::from(*value).to_le_bytes());
    save(path, "<f8", n_rows, width, bytes);
}

fn save(path: &Path, dtype: &str, n_rows: usize, width: usize, rows: impl Iterator<Item = u8>) {
    let header =
        format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({n_rows}, {width}), }}");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // 10 bytes and the header fill a multiple of 64.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    bytes.extend(u16::try_from(length).expect("short").to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    bytes.extend(rows);
    fs::write(path, bytes).expect("writes");
}

fn noise(n: usize, mut random: u64) -> Vec<f32> {
    (0..n).map(|_| uniform(&mut random)).collect()
}

pub(crate) fn uniform(random: &mut u64) -> f32 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
    (*random >> 40) as f32 / (1 << 24) as f32
}

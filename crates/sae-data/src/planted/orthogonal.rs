//! Directions as orthogonal to one another as their number allows.

use rayon::prelude::*;

/// Columns of a product that are computed together.
const COLUMNS: usize = 32;

/// Terms of a product that are added together.
const DEPTH: usize = 256;

/// Rows of a product that are computed together.
const ROWS: usize = 4;

/// Makes unit rows more orthogonal by Adam on Σ_{i≠j} (e_i·e_j)² + n Σ_i (|e_i|² − 1)².
///
/// This is the objective of SAELens' `orthogonalize_embeddings`. Its gradient by e_i,
/// 4(Σ_{j≠i} (e_i·e_j) e_j + n (|e_i|² − 1) e_i), is computed as E(EᵀE), which takes n·d² operations
/// instead of n²·d.
pub(super) fn orthogonalize(
    vectors: &mut [f32],
    d_model: usize,
    steps: usize,
    lr: f64,
    progress: &mut dyn FnMut(u64),
) {
    let n = vectors.len() / d_model;
    let (mut first, mut second) = (vec![0.0f32; vectors.len()], vec![0.0f32; vectors.len()]);
    for step in 1..=steps {
        let transposed = transpose(vectors, n, d_model);
        let covariance = symmetric_product(&transposed, vectors, d_model, n);
        let products = product(vectors, &covariance, n, d_model, d_model);
        let correction = |beta: f64| (1.0 - beta.powi(step as i32)) as f32;
        let (rate, root) = (lr as f32 / correction(0.9), correction(0.999).sqrt());
        let rows = vectors.par_chunks_mut(d_model).zip(products.par_chunks(d_model));
        let moments = first.par_chunks_mut(d_model).zip(second.par_chunks_mut(d_model));
        rows.zip(moments).for_each(|((row, products), (first, second))| {
            let square = row.iter().map(|v| v * v).sum::<f32>();
            let own = n as f32 * (square - 1.0) - square;
            for (i, v) in row.iter_mut().enumerate() {
                let gradient = 4.0 * (products[i] + own * *v);
                first[i] = 0.9 * first[i] + 0.1 * gradient;
                second[i] = 0.999 * second[i] + 0.001 * gradient * gradient;
                *v -= rate * first[i] / (second[i].sqrt() / root + 1e-8);
            }
        });
        progress(step as u64);
    }
    vectors.par_chunks_mut(d_model).for_each(|row| {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-8);
        row.iter_mut().for_each(|v| *v /= norm);
    });
}

fn transpose(matrix: &[f32], n_rows: usize, n_columns: usize) -> Vec<f32> {
    let mut transposed = vec![0.0; matrix.len()];
    transposed.par_chunks_mut(n_rows).enumerate().for_each(|(column, out)| {
        for (row, out) in out.iter_mut().enumerate() {
            *out = matrix[row * n_columns + column];
        }
    });
    transposed
}

/// `[m, k]` times `[k, n]`. Each element is summed in order, without fused operations, so that it
/// has the same bits on any number of threads of any machine.
fn product(left: &[f32], right: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    product_from(left, right, [m, k, n], |_| 0)
}

/// `[m, k]` times its transpose `[k, m]`, with the same bits as [`product`]: a·b and b·a are added in
/// the same order.
fn symmetric_product(left: &[f32], right: &[f32], m: usize, k: usize) -> Vec<f32> {
    let mut out = product_from(left, right, [m, k, m], |first_column| first_column);
    for row in 0..m {
        for column in row + 1..m {
            out[row * m + column] = out[column * m + row];
        }
    }
    out
}

/// The same, of each panel of columns from a row on, a multiple of `ROWS`; 0 above it.
fn product_from(
    left: &[f32],
    right: &[f32],
    [m, k, n]: [usize; 3],
    first_row: impl Fn(usize) -> usize + Sync,
) -> Vec<f32> {
    let arch = pulp::Arch::new();
    // Of each panel of columns, the product `[m, COLUMNS]`.
    let panels: Vec<Vec<f32>> = (0..n.div_ceil(COLUMNS))
        .into_par_iter()
        .map(|panel| {
            let columns = panel * COLUMNS..n.min((panel + 1) * COLUMNS);
            let first = first_row(columns.start);
            let mut whole = vec![0.0; m * COLUMNS];
            let out = &mut whole[first * COLUMNS..];
            let mut packed = [[0.0f32; COLUMNS]; DEPTH];
            for start in (0..k).step_by(DEPTH) {
                let depth = start..k.min(start + DEPTH);
                let packed = &mut packed[..depth.len()];
                for (i, packed) in depth.clone().zip(&mut *packed) {
                    packed[..columns.len()].copy_from_slice(&right[i * n..][columns.clone()]);
                }
                for (block, out) in out.chunks_mut(ROWS * COLUMNS).enumerate() {
                    // A row that is not there is computed as the last that is, and left out.
                    let last = out.len() / COLUMNS - 1;
                    let row = |row: usize| (first + block * ROWS + row.min(last)) * k;
                    let rows = std::array::from_fn(|i| &left[row(i)..][depth.clone()]);
                    arch.dispatch(
                        #[inline(always)]
                        || add_tile(rows, packed, out),
                    );
                }
            }
            whole
        })
        .collect();
    let mut out = vec![0.0; m * n];
    out.par_chunks_mut(n).enumerate().for_each(|(row, out)| {
        for (panel, out) in panels.iter().zip(out.chunks_mut(COLUMNS)) {
            out.copy_from_slice(&panel[row * COLUMNS..][..out.len()]);
        }
    });
    out
}

/// Adds the product of up to `ROWS` rows and a block of a panel.
#[inline(always)]
fn add_tile(rows: [&[f32]; ROWS], packed: &[[f32; COLUMNS]], out: &mut [f32]) {
    let mut sums = [[0.0f32; COLUMNS]; ROWS];
    for (sums, out) in sums.iter_mut().zip(out.chunks(COLUMNS)) {
        sums.copy_from_slice(out);
    }
    for (i, right) in packed.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let factor = row[i];
            for (sum, v) in sums.iter_mut().zip(right) {
                *sum += factor * v;
            }
        }
    }
    for (out, sums) in out.chunks_mut(COLUMNS).zip(&sums) {
        out.copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::{rng, unit_vectors};
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn products_are_those_of_their_definition() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 9), (8, 16, 8), (13, 7, 20)] {
            let values = |name, n| unit_vectors(&mut rng(1, name, 0), 1, n);
            let (left, right) = (values("left", m * k), values("right", k * n));
            let right_columns = transpose(&right, k, n);
            let got = product(&left, &right, m, k, n);
            for (place, got) in got.iter().enumerate() {
                let (row, column) = (&left[place / n * k..][..k], place % n * k);
                let expected = dot(row, &right_columns[column..][..k]);
                assert!((f64::from(*got) - expected).abs() < 1e-6, "{m} {k} {n}: {place}");
            }
        }
    }

    #[test]
    fn products_with_the_transpose_have_the_bits_of_any_product() {
        for (m, k) in [(1, 1), (5, 3), (33, 300), (70, 9)] {
            let left = unit_vectors(&mut rng(4, "left", 0), m, k);
            let right = transpose(&left, m, k);
            assert_eq!(symmetric_product(&left, &right, m, k), product(&left, &right, m, k, m));
        }
    }

    /// One step on a problem whose gradient is taken by finite differences of the objective.
    #[test]
    fn a_step_goes_against_the_gradient() {
        let (n, d, lr) = (7, 3, 1e-3);
        let start = unit_vectors(&mut rng(2, "start", 0), n, d);
        let loss = |e: &[f64]| {
            let gram =
                |i: usize, j: usize| (0..d).map(|c| e[i * d + c] * e[j * d + c]).sum::<f64>();
            let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
            pairs
                .map(|(i, j)| match i == j {
                    true => n as f64 * (gram(i, i) - 1.0).powi(2),
                    false => gram(i, j).powi(2),
                })
                .sum::<f64>()
        };
        let mut moved = start.clone();
        orthogonalize(&mut moved, d, 1, lr, &mut |_| {});
        let at: Vec<f64> = start.iter().map(|&v| v.into()).collect();
        // Adam's first step is lr against the gradient's sign.
        let mut expected: Vec<f64> = (0..n * d)
            .map(|i| {
                let at =
                    |by| at.iter().enumerate().map(move |(j, v)| v + if i == j { by } else { 0.0 });
                let [up, down] = [1e-4, -1e-4].map(|by| loss(&at(by).collect::<Vec<_>>()));
                at(0.0).nth(i).unwrap() - lr * (up - down).signum()
            })
            .collect();
        for (row, moved) in expected.chunks_mut(d).zip(moved.chunks(d)) {
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            for (v, moved) in row.iter().zip(moved) {
                assert!((v / norm - f64::from(*moved)).abs() < 1e-6, "{} and {moved}", v / norm);
            }
        }
    }

    #[test]
    fn cosines_shrink_and_rows_stay_unit() {
        let (n, d) = (24, 12);
        let largest = |e: &[f32]| {
            let rows: Vec<&[f32]> = e.chunks(d).collect();
            let pairs = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
            pairs.map(|(i, j)| dot(rows[i], rows[j]).powi(2)).sum::<f64>()
        };
        let start = unit_vectors(&mut rng(3, "start", 0), n, d);
        let mut end = start.clone();
        orthogonalize(&mut end, d, 2000, 1e-2, &mut |_| {});
        // The least that n unit vectors can have, Welch's bound: (n²/d − n)/2.
        let bound = (n * n / d - n) as f64 / 2.0;
        assert!(largest(&start) > 1.2 * bound && largest(&end) < 1.02 * bound, "{}", largest(&end));
        for row in end.chunks(d) {
            assert!((dot(row, row) - 1.0).abs() < 1e-6);
        }
    }
}

//! Vector primitives: linear combinations and dot products of rows.
//!
//! All are generic over the instruction set and inlined into the kernels, which
//! choose one at run time through [`dispatch`]. Reductions keep a fixed number of
//! partial sums, so a result depends on the machine but never on the threads.

use pulp::{Arch, Simd, WithSimd};

/// `out = Σ coefficients[n]·rows[n]`, added to `out` if `ACCUMULATE`.
#[inline(always)]
pub(crate) fn combine<S: Simd, const N: usize, const ACCUMULATE: bool>(
    simd: S,
    out: &mut [f32],
    rows: [&[f32]; N],
    coefficients: [f32; N],
) {
    let len = out.len();
    let (out_body, out_tail) = S::as_mut_simd_f32s(out);
    let n_body = out_body.len();
    let start = len - out_tail.len();
    let splat = coefficients.map(|c| simd.splat_f32s(c));
    let body = rows.map(|row| &S::as_simd_f32s(&row[..len]).0[..n_body]);
    for i in 0..n_body {
        let mut sum = if ACCUMULATE { out_body[i] } else { simd.mul_f32s(splat[0], body[0][i]) };
        for n in usize::from(!ACCUMULATE)..N {
            sum = simd.mul_add_e_f32s(splat[n], body[n][i], sum);
        }
        out_body[i] = sum;
    }
    for (i, o) in out_tail.iter_mut().enumerate() {
        let mut sum = if ACCUMULATE { *o } else { 0.0 };
        for n in 0..N {
            sum += coefficients[n] * rows[n][start + i];
        }
        *o = sum;
    }
}

/// Adds `Σ coefficient(n)·row(n)` for n in `0..n_rows` to `out`.
#[inline(always)]
pub(crate) fn add_combination<'a, S: Simd>(
    simd: S,
    out: &mut [f32],
    n_rows: usize,
    row: impl Fn(usize) -> &'a [f32],
    coefficient: impl Fn(usize) -> f32,
) {
    let mut n = 0;
    while n + 4 <= n_rows {
        combine::<S, 4, true>(
            simd,
            out,
            [row(n), row(n + 1), row(n + 2), row(n + 3)],
            [coefficient(n), coefficient(n + 1), coefficient(n + 2), coefficient(n + 3)],
        );
        n += 4;
    }
    add_rest(simd, out, n, n_rows, row, coefficient);
}

/// Writes `Σ coefficient(n)·row(n)` for n in `0..n_rows` to `out`.
#[inline(always)]
pub(crate) fn write_combination<'a, S: Simd>(
    simd: S,
    out: &mut [f32],
    n_rows: usize,
    row: impl Fn(usize) -> &'a [f32],
    coefficient: impl Fn(usize) -> f32,
) {
    let first = match n_rows {
        0 => {
            out.fill(0.0);
            0
        }
        1 => {
            combine::<S, 1, false>(simd, out, [row(0)], [coefficient(0)]);
            1
        }
        2 => {
            let coefficients = [coefficient(0), coefficient(1)];
            combine::<S, 2, false>(simd, out, [row(0), row(1)], coefficients);
            2
        }
        3 => {
            let coefficients = [coefficient(0), coefficient(1), coefficient(2)];
            combine::<S, 3, false>(simd, out, [row(0), row(1), row(2)], coefficients);
            3
        }
        _ => {
            combine::<S, 4, false>(
                simd,
                out,
                [row(0), row(1), row(2), row(3)],
                [coefficient(0), coefficient(1), coefficient(2), coefficient(3)],
            );
            4
        }
    };
    let rest = |n: usize| row(n + first);
    add_combination(simd, out, n_rows - first, rest, |n| coefficient(n + first));
}

#[inline(always)]
fn add_rest<'a, S: Simd>(
    simd: S,
    out: &mut [f32],
    n: usize,
    n_rows: usize,
    row: impl Fn(usize) -> &'a [f32],
    coefficient: impl Fn(usize) -> f32,
) {
    match n_rows - n {
        1 => combine::<S, 1, true>(simd, out, [row(n)], [coefficient(n)]),
        2 => {
            let coefficients = [coefficient(n), coefficient(n + 1)];
            combine::<S, 2, true>(simd, out, [row(n), row(n + 1)], coefficients);
        }
        3 => {
            let coefficients = [coefficient(n), coefficient(n + 1), coefficient(n + 2)];
            combine::<S, 3, true>(simd, out, [row(n), row(n + 1), row(n + 2)], coefficients);
        }
        _ => {}
    }
}

/// The dot products of `x` with each of `rows`, read once.
#[inline(always)]
pub(crate) fn dots<S: Simd, const N: usize>(simd: S, x: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    let (x_body, x_tail) = S::as_simd_f32s(x);
    let n_body = x_body.len();
    let start = x.len() - x_tail.len();
    let body = rows.map(|row| &S::as_simd_f32s(&row[..x.len()]).0[..n_body]);
    let mut even = [simd.splat_f32s(0.0); N];
    let mut odd = [simd.splat_f32s(0.0); N];
    let mut i = 0;
    while i + 2 <= n_body {
        for n in 0..N {
            even[n] = simd.mul_add_e_f32s(x_body[i], body[n][i], even[n]);
            odd[n] = simd.mul_add_e_f32s(x_body[i + 1], body[n][i + 1], odd[n]);
        }
        i += 2;
    }
    if i < n_body {
        for n in 0..N {
            even[n] = simd.mul_add_e_f32s(x_body[i], body[n][i], even[n]);
        }
    }
    let mut out = [0.0; N];
    for n in 0..N {
        out[n] = simd.reduce_sum_f32s(simd.add_f32s(even[n], odd[n]));
        for (j, &v) in x_tail.iter().enumerate() {
            out[n] += v * rows[n][start + j];
        }
    }
    out
}

/// The dot product of two rows.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, x: &[f32], y: &[f32]) -> f32 {
    dots(simd, x, [y])[0]
}

/// Multiplies `x` by `factor` and returns its squared norm before.
#[inline(always)]
pub(crate) fn scale_and_square<S: Simd>(simd: S, x: &mut [f32], factor: f32) -> f32 {
    let (body, tail) = S::as_mut_simd_f32s(x);
    let by = simd.splat_f32s(factor);
    let mut sum = simd.splat_f32s(0.0);
    for v in body {
        sum = simd.mul_add_e_f32s(*v, *v, sum);
        *v = simd.mul_f32s(*v, by);
    }
    let mut total = simd.reduce_sum_f32s(sum);
    for v in tail {
        total += *v * *v;
        *v *= factor;
    }
    total
}

/// Runs a kernel with the best instruction set of this machine.
pub(crate) fn dispatch<K: WithSimd>(kernel: K) -> K::Output {
    Arch::new().dispatch(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run<F>(F);

    trait Generic {
        type Output;
        fn run<S: Simd>(self, simd: S) -> Self::Output;
    }

    impl<G: Generic> WithSimd for Run<G> {
        type Output = G::Output;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> G::Output {
            self.0.run(simd)
        }
    }

    struct Case {
        rows: Vec<Vec<f32>>,
        coefficients: Vec<f32>,
        len: usize,
    }

    impl Generic for &Case {
        type Output = (Vec<f32>, Vec<f32>, Vec<f32>);
        fn run<S: Simd>(self, simd: S) -> Self::Output {
            let mut written = vec![7.0; self.len];
            let mut added = vec![7.0; self.len];
            let n = self.rows.len();
            let row = |n: usize| self.rows[n].as_slice();
            write_combination(simd, &mut written, n, row, |n| self.coefficients[n]);
            add_combination(simd, &mut added, n, row, |n| self.coefficients[n]);
            let x = vec![0.5; self.len];
            let products = (0..n).map(|n| dot(simd, &x, row(n))).collect();
            (written, added, products)
        }
    }

    #[test]
    fn every_length_and_count_matches_the_definition() {
        for len in 1..40 {
            for n in 0..12 {
                let rows: Vec<Vec<f32>> = (0..n)
                    .map(|r| (0..len).map(|i| ((r * 31 + i * 7) % 11) as f32 - 5.0).collect())
                    .collect();
                let coefficients: Vec<f32> = (0..n).map(|r| r as f32 * 0.25 - 1.0).collect();
                let case = Case { rows, coefficients, len };
                let (written, added, products) = dispatch(Run(&case));
                for i in 0..len {
                    let want: f32 =
                        case.rows.iter().zip(&case.coefficients).map(|(r, c)| r[i] * c).sum();
                    assert!((written[i] - want).abs() < 1e-4, "{len} {n} {i}");
                    assert!((added[i] - want - 7.0).abs() < 1e-4, "{len} {n} {i}");
                }
                for (row, p) in case.rows.iter().zip(products) {
                    assert!((p - 0.5 * row.iter().sum::<f32>()).abs() < 1e-4);
                }
            }
        }
    }
}

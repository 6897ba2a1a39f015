//! Products of matrices in slices, on one thread.

use gemm::{Parallelism, gemm};

use crate::error::Error;

/// A matrix in a slice.
#[derive(Debug, Clone, Copy)]
pub struct Factor<'a> {
    /// The elements, and whatever lies between them.
    pub data: &'a [f32],
    /// Rows and columns.
    pub shape: [usize; 2],
    /// From one row, and from one column, to the next.
    pub strides: [usize; 2],
}

/// out = a·b by the `gemm` crate, on the thread that calls: for many small products side by side.
///
/// # Shapes
/// a `[m, k]`, b `[k, n]`; out `[m, n]`, whose rows begin `row_stride` elements apart.
///
/// # Errors
/// [`Error::Product`] for shapes that do not fit together, or into the slices.
pub fn multiply(
    a: Factor<'_>,
    b: Factor<'_>,
    out: &mut [f32],
    row_stride: usize,
) -> Result<(), Error> {
    let ([m, inner], [other, n]) = (a.shape, b.shape);
    let target = [(m, row_stride), (n, 1)];
    if inner != other || (row_stride < n && m > 1) || !is_inside(target, out.len()) {
        return Err(Error::Product(format!(
            "expected [m, k]·[k, n] into m rows of n, got {:?}·{:?} into {} elements, rows {row_stride} \
             apart",
            a.shape,
            b.shape,
            out.len()
        )));
    }
    a.check()?;
    b.check()?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    // A stride that is no `isize` is of a single row or column, or of a matrix without elements, and
    // leads nowhere: the others are less than the length of a slice.
    let signed = |stride: usize| isize::try_from(stride).unwrap_or(0);
    let stride = |factor: Factor<'_>, i: usize| signed(factor.strides[i]);
    // SAFETY: every address that shapes and strides name lies inside the slice, as was checked. The
    // target is borrowed exclusively, and its rows do not overlap.
    unsafe {
        gemm(
            m,
            n,
            inner,
            out.as_mut_ptr(),
            1,
            signed(row_stride),
            false,
            a.data.as_ptr(),
            stride(a, 1),
            stride(a, 0),
            b.data.as_ptr(),
            stride(b, 1),
            stride(b, 0),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
    Ok(())
}

impl Factor<'_> {
    /// Refuses a matrix that is not inside its slice.
    fn check(&self) -> Result<(), Error> {
        let Self { data, shape, strides } = self;
        if is_inside([0, 1].map(|i| (shape[i], strides[i])), data.len()) {
            return Ok(());
        }
        Err(Error::Product(format!(
            "expected a matrix inside {} elements, got shape {shape:?} and strides {strides:?}",
            data.len()
        )))
    }
}

/// Whether elements so many steps of so many elements away lie inside a slice.
fn is_inside(axes: [(usize, usize); 2], len: usize) -> bool {
    if axes.iter().any(|(n, _)| *n == 0) {
        return true;
    }
    let steps = axes.iter().map(|(n, stride)| (n - 1).checked_mul(*stride));
    let last = steps.reduce(|a, b| a?.checked_add(b?)).flatten();
    last.is_some_and(|last| last < len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Factor, multiply};

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(
            m in 0..9_usize,
            inner in 0..9_usize,
            n in 0..9_usize,
            gap in 0..3_usize,
            is_transposed: bool,
        ) {
            let value = |i: usize| (i as f32 * 0.7).sin();
            let a: Vec<f32> = (0..m * (inner + gap)).map(value).collect();
            let b: Vec<f32> = (0..(inner + 1) * (n + 1)).map(|i| value(i + 50)).collect();
            let strides = if is_transposed { [1, inner] } else { [n, 1] };
            let mut out = vec![9.0; m * (n + gap)];
            let left = Factor { data: &a, shape: [m, inner], strides: [inner + gap, 1] };
            let right = Factor { data: &b, shape: [inner, n], strides };
            multiply(left, right, &mut out, n + gap).unwrap();
            for i in 0..m {
                for j in 0..n + gap {
                    let of_pair = |l: usize| {
                        f64::from(a[i * (inner + gap) + l])
                            * f64::from(b[l * strides[0] + j * strides[1]])
                    };
                    let expected = if j < n { (0..inner).map(of_pair).sum() } else { 9.0 };
                    prop_assert!((f64::from(out[i * (n + gap) + j]) - expected).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let data = [1.0; 12];
        let whole = Factor { data: &data, shape: [3, 4], strides: [4, 1] };
        let turned = Factor { data: &data, shape: [4, 3], strides: [1, 4] };
        let mut out = [0.0; 9];
        multiply(whole, turned, &mut out, 3).unwrap();
        assert_eq!(out, [4.0; 9]);
        for stride in [0, 4, usize::MAX / 2 + 1, usize::MAX] {
            let row = Factor { shape: [1, 4], strides: [stride, 1], ..whole };
            let column = Factor { shape: [4, 1], strides: [1, stride], ..whole };
            let mut one = [9.0; 2];
            multiply(row, column, &mut one, stride).unwrap();
            assert_eq!(one, [4.0, 9.0]);
            let nothing = Factor { shape: [3, 0], strides: [stride, stride], ..whole };
            let across = Factor { shape: [0, 3], strides: [stride, stride], ..whole };
            let mut zeros = [9.0; 9];
            multiply(nothing, across, &mut zeros, 3).unwrap();
            assert_eq!(zeros, [0.0; 9]);
        }
        for (a, b, len, stride) in [
            (whole, whole, 9, 3),
            (whole, turned, 8, 3),
            (whole, turned, 9, 2),
            (Factor { shape: [4, 4], ..whole }, turned, 9, 3),
            (Factor { strides: [5, 1], ..whole }, turned, 9, 3),
            (Factor { strides: [usize::MAX, 1], ..whole }, turned, 9, 3),
            (whole, Factor { strides: [1, 5], ..turned }, 9, 3),
        ] {
            assert!(multiply(a, b, &mut out[..len], stride).is_err());
        }
    }
}

//! Products of f32 matrices on the CPU, in place.

use gemm::{Parallelism, gemm};
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi;

/// out = a·b, or out + a·b where `add` is set, by the `gemm` crate on rayon's threads.
///
/// It uses AVX-512 where there is any, whoever made the CPU, and gives the same bits for any
/// number of threads. Like all that works in place, it needs that no slice of `out` is in use;
/// autograd does not see it.
///
/// # Shapes
/// a `[m, k]`, b `[k, n]`, of any strides; out `[m, n]`, contiguous. f32, on the CPU.
///
/// # Errors
/// [`Error::Product`] for shapes that do not fit or memory that overlaps, [`Error::NotPlain`],
/// [`Error::Device`], [`Error::Kind`], [`Error::NotContiguous`].
pub fn matmul_into(a: &Tensor, b: &Tensor, out: &mut Tensor, add: bool) -> Result<(), Error> {
    let factors = [Strided::new(a)?, Strided::new(b)?];
    let [left, right] = &factors;
    let target = Strided::new(out)?;
    if !out.is_contiguous() {
        return Err(Error::NotContiguous { shape: out.size(), strides: out.stride() });
    }
    if (left.cols, target.rows, target.cols) != (right.rows, left.rows, right.cols) {
        let shapes = [a, b, out].map(Tensor::size);
        return Err(Error::Product(format!(
            "expected [m, k]·[k, n] into [m, n], got {:?}·{:?} into {:?}",
            shapes[0], shapes[1], shapes[2]
        )));
    }
    if target.rows == 0 || target.cols == 0 {
        return Ok(());
    }
    if factors.iter().any(|factor| factor.overlaps(&target)) {
        return Err(Error::Product("expected a result with memory of its own".into()));
    }
    // SAFETY: each pointer is that of a plain f32 CPU tensor which the call borrows, and rows,
    // columns and strides are the tensor's own, so that every address is inside its memory. The
    // target is written by this call alone: it is contiguous, so no two of its elements share an
    // address, it overlaps neither factor, and no slice of it is in use, as the caller promises.
    unsafe {
        gemm(
            target.rows,
            target.cols,
            left.cols,
            target.data,
            target.col_stride,
            target.row_stride,
            add,
            left.data,
            left.col_stride,
            left.row_stride,
            right.data,
            right.col_stride,
            right.row_stride,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
    Ok(())
}

/// A matrix in memory.
struct Strided {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

impl Strided {
    fn new(tensor: &Tensor) -> Result<Self, Error> {
        if !ffi::is_plain(tensor) {
            return Err(Error::NotPlain);
        }
        if tensor.device() != Device::Cpu {
            return Err(Error::Device { got: tensor.device() });
        }
        let kind = tensor.f_kind()?;
        if kind != Kind::Float {
            return Err(Error::Kind { expected: Kind::Float, got: kind });
        }
        let (&[rows, cols], &[row_stride, col_stride]) =
            (tensor.size().as_slice(), tensor.stride().as_slice())
        else {
            let shape = tensor.size();
            return Err(Error::Product(format!("expected a matrix, got shape {shape:?}")));
        };
        Ok(Self {
            data: tensor.data_ptr().cast(),
            rows: rows as usize,
            cols: cols as usize,
            row_stride: row_stride as isize,
            col_stride: col_stride as isize,
        })
    }

    /// The first address, and that of the last element.
    fn ends(&self) -> (usize, usize) {
        let steps = |n: usize, stride: isize| n.saturating_sub(1) * stride.unsigned_abs();
        let last = steps(self.rows, self.row_stride) + steps(self.cols, self.col_stride);
        let start = self.data.addr();
        (start, start + last * size_of::<f32>())
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ((start, end), (other_start, other_end)) = (self.ends(), other.ends());
        self.rows * self.cols > 0 && start <= other_end && other_start <= end
    }
}

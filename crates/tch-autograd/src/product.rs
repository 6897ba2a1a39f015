//! Products of matrices on the CPU, in place.

use gemm::{Parallelism, gemm};
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi;
use crate::view::Element;

/// out = a·b, or out + a·b where `add` is set, by the `gemm` crate on rayon's threads.
///
/// It uses AVX-512 where there is any, whoever made the CPU, and gives the same bits for any
/// number of threads. As with tch's own operations in place, no other thread may use the memory of
/// `out` meanwhile, and a [`View`](crate::View) of it shows on what it showed. Autograd takes it as a
/// change in place without a gradient.
///
/// # Shapes
/// a `[m, k]`, b `[k, n]`, of any strides; out `[m, n]`, contiguous. All of f32 or all of f64, on the CPU.
///
/// # Errors
/// [`Error::Product`] for shapes that do not fit or memory that overlaps, [`Error::NotPlain`],
/// [`Error::Device`], [`Error::Kind`], [`Error::NotContiguous`].
pub fn matmul_into(a: &Tensor, b: &Tensor, out: &mut Tensor, add: bool) -> Result<(), Error> {
    match out.f_kind()? {
        Kind::Double => product::<f64>(a, b, out, add, 1.0),
        _ => product::<f32>(a, b, out, add, 1.0),
    }
}

/// As [`matmul_into`], of one type of elements, in which `one` is 1.
fn product<T: Element>(
    a: &Tensor,
    b: &Tensor,
    out: &mut Tensor,
    add: bool,
    one: T,
) -> Result<(), Error> {
    let target = Strided::new::<T>(out)?;
    if !out.is_contiguous() {
        return Err(Error::NotContiguous { shape: out.size(), strides: out.stride() });
    }
    let factors = [Strided::new::<T>(a)?, Strided::new::<T>(b)?];
    let [left, right] = &factors;
    if (left.cols, target.rows, target.cols) != (right.rows, left.rows, right.cols) {
        return Err(no_product([a, b, out]));
    }
    if target.rows == 0 || target.cols == 0 {
        return Ok(());
    }
    // First the target: where it shares memory by copy-on-write it moves, and factors in the same
    // storage move with it.
    let target_data: *mut T = ffi::write_ptr(out)?.cast();
    let [left_data, right_data] = [a, b].map(|factor| ffi::read_ptr(factor).cast::<T>());
    let written = target.ends(target_data);
    if left.overlaps(left_data, written) || right.overlaps(right_data, written) {
        return Err(Error::Product("expected a result with memory of its own".into()));
    }
    // SAFETY: each pointer is that of a plain CPU tensor of elements `T` which the call borrows, and
    // rows, columns and strides are the tensor's own, so that every address is inside its storage. The
    // target is written by this call alone: it is contiguous, so no two of its elements share an
    // address, it overlaps neither factor, and no slice of it is in use: a `view` keeps a memory of
    // its own once `write_ptr` was called, and one of `view_mut` wants the only handle, borrowed.
    unsafe {
        gemm(
            target.rows,
            target.cols,
            left.cols,
            target_data,
            target.col_stride,
            target.row_stride,
            add,
            left_data,
            left.col_stride,
            left.row_stride,
            right_data,
            right.col_stride,
            right.row_stride,
            one,
            one,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
    Ok(())
}

/// That two matrices and a result do not fit.
fn no_product(matrices: [&Tensor; 3]) -> Error {
    let [a, b, out] = matrices.map(Tensor::size);
    Error::Product(format!("expected [m, k]·[k, n] into [m, n], got {a:?}·{b:?} into {out:?}"))
}

/// How a matrix lies in memory.
struct Strided {
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

impl Strided {
    fn new<T: Element>(tensor: &Tensor) -> Result<Self, Error> {
        if !ffi::is_plain(tensor) {
            return Err(Error::NotPlain);
        }
        if tensor.device() != Device::Cpu {
            return Err(Error::Device { got: tensor.device() });
        }
        let kind = tensor.f_kind()?;
        if kind != T::KIND {
            return Err(Error::Kind { expected: T::KIND, got: kind });
        }
        let (&[rows, cols], &[row_stride, col_stride]) =
            (tensor.size().as_slice(), tensor.stride().as_slice())
        else {
            let shape = tensor.size();
            return Err(Error::Product(format!("expected a matrix, got shape {shape:?}")));
        };
        Ok(Self {
            rows: rows as usize,
            cols: cols as usize,
            row_stride: row_stride as isize,
            col_stride: col_stride as isize,
        })
    }

    /// The first address, and that of the last element.
    fn ends<T>(&self, data: *const T) -> (usize, usize) {
        let steps = |n: usize, stride: isize| n.saturating_sub(1) * stride.unsigned_abs();
        let last = steps(self.rows, self.row_stride) + steps(self.cols, self.col_stride);
        (data.addr(), data.addr() + last * size_of::<T>())
    }

    fn overlaps<T>(&self, data: *const T, other: (usize, usize)) -> bool {
        let (start, end) = self.ends(data);
        self.rows * self.cols > 0 && start <= other.1 && other.0 <= end
    }
}

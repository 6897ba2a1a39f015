//! Borrowed slices of CPU tensors.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi;

mod sealed {
    pub trait Sealed {}
}

/// A type of tensor elements that can be seen as a slice: any of its bit patterns is a value.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The kind of a tensor of such elements.
    const KIND: Kind;
}

macro_rules! element {
    ($($type:ty => $kind:ident),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const KIND: Kind = Kind::$kind;
        }
    )*};
}

element! {
    f32 => Float, f64 => Double, f16 => Half, bf16 => BFloat16,
    i64 => Int64, i32 => Int, i16 => Int16, i8 => Int8, u8 => Uint8,
}

/// The elements of a contiguous CPU tensor in C order, without a copy.
///
/// The slice borrows the handle. tch lets other handles of the same memory (`shallow_clone`,
/// `view`, …) write through `&self`; as long as the slice is in use, nothing may do so. That is
/// the one condition that is not checked.
///
/// # Errors
/// [`Error::NotPlain`], [`Error::Device`], [`Error::Kind`], [`Error::NotContiguous`] or
/// [`Error::Misaligned`] if the tensor cannot be seen so.
pub fn view<T: Element>(tensor: &Tensor) -> Result<&[T], Error> {
    let (data, len) = locate::<T>(tensor)?;
    // SAFETY: `locate` found `len` initialised elements of `T` at `data`, aligned; the memory
    // lives as long as the handle, which the result borrows.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// The elements of a contiguous CPU tensor in C order, to be changed in place.
///
/// The handle must be the only one: no clone, view, storage shared or variable saved for backward
/// may reach its memory. Autograd does not see the change.
///
/// # Errors
/// Those of [`view`], and [`Error::Shared`] if there is another way to the memory.
pub fn view_mut<T: Element>(tensor: &mut Tensor) -> Result<&mut [T], Error> {
    let (data, len) = locate::<T>(tensor)?;
    if !ffi::is_unique(tensor) {
        return Err(Error::Shared);
    }
    // SAFETY: as in `view`; the handle is the only one and borrowed exclusively, so is the memory.
    Ok(unsafe { std::slice::from_raw_parts_mut(data, len) })
}

fn locate<T: Element>(tensor: &Tensor) -> Result<(*mut T, usize), Error> {
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
    if !tensor.is_contiguous() {
        return Err(Error::NotContiguous { shape: tensor.size(), strides: tensor.stride() });
    }
    let len = tensor.numel();
    let data = if len == 0 {
        std::ptr::NonNull::dangling().as_ptr()
    } else {
        tensor.data_ptr().cast::<T>()
    };
    if !data.is_aligned() {
        let (align, address) = (align_of::<T>(), data.addr());
        return Err(Error::Misaligned { kind, align, address });
    }
    Ok((data, len))
}

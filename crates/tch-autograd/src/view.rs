//! The elements of CPU tensors as slices.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi::{self, Snapshot};

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

/// The elements of a contiguous CPU tensor in C order, as they are now.
///
/// Nothing is copied: tensor and view share the memory by libtorch's copy-on-write until one writes
/// to the tensor. tch lets any handle of it do so at any time, by `shallow_clone`, `resize_` or
/// `set_data`; then the tensor gets a copy, and the view shows on what it showed. Where there is no
/// memory for that copy, the process aborts, as it does where Rust lacks memory. (libtorch 2.13 refuses
/// to write to a tensor that grew under a view, as long as there is the view.) Memory that libtorch has
/// not allocated itself is copied at once.
///
/// A view holds no borrow of its tensor: it may outlive it, and threads may read it whatever becomes
/// of the tensor.
///
/// As with all operations of tch, no other thread may write to the tensor when a view is made or
/// dropped.
///
/// ```
/// use tch::Tensor;
/// use tch_autograd::view;
///
/// let tensor = Tensor::from_slice(&[1.0f32, 2.0]);
/// let elements = view::<f32>(&tensor)?;
/// let _ = tensor.shallow_clone().fill_(7.0);
/// assert_eq!(*elements, [1.0, 2.0]);
/// assert_eq!(*view::<f32>(&tensor)?, [7.0, 7.0]);
/// # Ok::<(), tch_autograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotPlain`], [`Error::Device`], [`Error::Kind`], [`Error::NotContiguous`] or
/// [`Error::Misaligned`] if the tensor cannot be seen so.
pub fn view<T: Element>(tensor: &Tensor) -> Result<View<T>, Error> {
    check::<T>(tensor)?;
    let len = tensor.numel();
    if len == 0 {
        return Ok(View(Memory::Copied(Vec::new())));
    }
    if let Some((snapshot, data)) = Snapshot::new(tensor) {
        let data = aligned(data.cast_mut().cast())?;
        return Ok(View(Memory::Shared { _snapshot: snapshot, data, len }));
    }
    let data = aligned::<T>(ffi::read_ptr(tensor).cast_mut().cast())?;
    // SAFETY: `check` found `len` elements of `T` inside the storage, which the handle keeps alive,
    // and they are aligned; nothing else runs on this thread before they are copied.
    let elements = unsafe { std::slice::from_raw_parts(data.as_ptr(), len) };
    Ok(View(Memory::Copied(elements.to_vec())))
}

/// The elements of a contiguous CPU tensor in C order, to be changed in place.
///
/// The handle must be the only one: no clone, view, [`View`], storage shared or variable saved for
/// backward may reach its memory, and no other mapping of a file. Autograd takes it as a change in
/// place.
///
/// # Errors
/// Those of [`view`], and [`Error::Shared`] if there is another way to the memory.
pub fn view_mut<T: Element>(tensor: &mut Tensor) -> Result<&mut [T], Error> {
    check::<T>(tensor)?;
    if !ffi::is_unique(tensor) {
        return Err(Error::Shared);
    }
    let len = tensor.numel();
    if len == 0 {
        return Ok(&mut []);
    }
    let data = aligned(ffi::write_ptr(tensor)?.cast())?;
    // SAFETY: `check` found `len` elements of `T` inside the storage, and they are aligned. The
    // handle is the only way to the memory and is borrowed exclusively, so the memory lives and
    // nothing else reads or writes it as long as the result is used: even a `view` needs the handle,
    // and one made before would count as another way, by its share of the storage.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), len) })
}

/// The elements of a tensor as [`view`] found them; a slice.
pub struct View<T>(Memory<T>);

// SAFETY: through a shared reference a view gives its elements only, which do not change. It is not
// `Send`, as its end touches the tensor: the thread that made it drops it.
unsafe impl<T: Sync> Sync for View<T> {}

enum Memory<T> {
    Shared { _snapshot: Snapshot, data: NonNull<T>, len: usize },
    Copied(Vec<T>),
}

impl<T> Deref for View<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            // SAFETY: `view` found `len` aligned elements at `data`, any bit pattern of which is a
            // value. The snapshot keeps the memory, and whatever writes to the tensor that shares it
            // writes to a copy: libtorch asks its storage for a pointer to write through, which
            // gives it one, and pointers from before the view are used in `unsafe` code only. The
            // memory comes from an allocator that the compiler cannot see into, so that elements
            // which nobody has written to have some value as well.
            Memory::Shared { data, len, .. } => unsafe {
                std::slice::from_raw_parts(data.as_ptr(), *len)
            },
            Memory::Copied(elements) => elements,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

/// Whether a tensor's elements are those of a slice of `T`, but for the alignment.
fn check<T: Element>(tensor: &Tensor) -> Result<(), Error> {
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
    Ok(())
}

fn aligned<T: Element>(data: *mut T) -> Result<NonNull<T>, Error> {
    match NonNull::new(data) {
        Some(data) if data.as_ptr().is_aligned() => Ok(data),
        _ => {
            let (kind, align, address) = (T::KIND, align_of::<T>(), data.addr());
            Err(Error::Misaligned { kind, align, address })
        }
    }
}

//! Raw declarations of the shim, and an owned list of tensors above them.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::{PhantomData, PhantomPinned};
use std::ptr::NonNull;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::error::Error;

/// `torch::autograd::variable_list`; lives behind pointers only.
#[repr(C)]
pub(crate) struct CList {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

pub(crate) type Forward = extern "C" fn(
    *mut c_void,
    *mut c_void,
    *const CList,
    *const u8,
    *mut CList,
    *mut CList,
    *mut CList,
) -> c_int;

pub(crate) type Backward =
    extern "C" fn(*mut c_void, *const CList, *const CList, *const u8, *mut CList) -> *mut c_char;

/// `Snapshot` of the shim; lives behind pointers only.
#[repr(C)]
pub(crate) struct CSnapshot {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// `tch_autograd_vtable` of the shim.
#[repr(C)]
pub(crate) struct Vtable {
    pub(crate) name: *const c_char,
    pub(crate) name_len: usize,
    pub(crate) forward: Forward,
    pub(crate) backward: Backward,
    pub(crate) drop: extern "C" fn(*mut c_void),
    pub(crate) free_text: extern "C" fn(*mut c_char),
}

unsafe extern "C" {
    pub(crate) fn tch_autograd_apply(
        function: *mut c_void,
        vtable: *const Vtable,
        failure: *mut c_void,
        inputs: *const *const C_tensor,
        n_inputs: usize,
        outputs: *mut CList,
        text: *mut *mut c_char,
    ) -> c_int;
    fn tch_autograd_free_text(text: *mut c_char);
    fn tch_autograd_list_new() -> *mut CList;
    fn tch_autograd_list_free(list: *mut CList);
    fn tch_autograd_list_len(list: *const CList) -> usize;
    fn tch_autograd_list_push(list: *mut CList, tensor: *const C_tensor);
    fn tch_autograd_list_get(list: *const CList, i: usize) -> *mut C_tensor;
    fn tch_autograd_is_plain(tensor: *const C_tensor) -> c_int;
    fn tch_autograd_is_unique(tensor: *const C_tensor) -> c_int;
    fn tch_autograd_is_inside(tensor: *const C_tensor) -> c_int;
    fn tch_autograd_read_ptr(tensor: *const C_tensor) -> *const c_void;
    fn tch_autograd_write_ptr(tensor: *const C_tensor, text: *mut *mut c_char) -> *mut c_void;
    fn tch_autograd_snapshot_new(
        tensor: *const C_tensor,
        data: *mut *const c_void,
    ) -> *mut CSnapshot;
    fn tch_autograd_snapshot_free(snapshot: *mut CSnapshot);
}

/// A list of tensors that Rust owns.
pub(crate) struct List(*mut CList);

impl List {
    pub(crate) fn new() -> Self {
        // SAFETY: no arguments; never null (the shim aborts when out of memory).
        Self(unsafe { tch_autograd_list_new() })
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut CList {
        self.0
    }

    pub(crate) fn into_tensors(self) -> Vec<Option<Tensor>> {
        // SAFETY: the list lives until the end of this call.
        unsafe { read_list(self.0) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: made by `tch_autograd_list_new`, freed once.
        unsafe { tch_autograd_list_free(self.0) }
    }
}

/// New handles of all tensors of a list, `None` for undefined ones.
///
/// # Safety
/// `list` points to a live list.
pub(crate) unsafe fn read_list(list: *const CList) -> Vec<Option<Tensor>> {
    // SAFETY: `list` is live, by contract.
    let len = unsafe { tch_autograd_list_len(list) };
    (0..len)
        .map(|i| {
            // SAFETY: i < len.
            let tensor = unsafe { tch_autograd_list_get(list, i) };
            // SAFETY: not null, so a handle of its own, which this `Tensor` now owns.
            (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) })
        })
        .collect()
}

/// Appends a tensor, undefined for `None`.
///
/// # Safety
/// `list` points to a live list that nobody else uses during the call.
pub(crate) unsafe fn push(list: *mut CList, tensor: Option<&Tensor>) {
    let tensor = tensor.map_or(std::ptr::null(), Tensor::as_ptr);
    // SAFETY: `list` is live by contract; `tensor` is null or lives in the caller's borrow.
    unsafe { tch_autograd_list_push(list, tensor) }
}

/// Takes over a text of the shim.
///
/// # Safety
/// `text` is null or was allocated by the shim and is not used afterwards.
pub(crate) unsafe fn take_text(text: *mut c_char) -> String {
    if text.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: a C string of the shim, by contract.
    let message = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: allocated by the shim, freed once.
    unsafe { tch_autograd_free_text(text) };
    message
}

/// A text for the shim; it comes back through [`free_text`].
pub(crate) fn give_text(message: String) -> *mut c_char {
    CString::new(message.replace('\0', " ")).unwrap_or_default().into_raw()
}

/// Frees a text made by [`give_text`].
pub(crate) extern "C" fn free_text(text: *mut c_char) {
    // SAFETY: the shim gives back exactly what `give_text` made, once.
    drop(unsafe { CString::from_raw(text) });
}

/// Whether the memory of a tensor says what it holds, and holds all of it.
pub(crate) fn is_plain(tensor: &Tensor) -> bool {
    let tensor = tensor.as_ptr();
    // SAFETY: a live handle; the second question is asked of plain tensors only.
    unsafe { tch_autograd_is_plain(tensor) != 0 && tch_autograd_is_inside(tensor) != 0 }
}

/// Whether no other handle, view or saved variable reaches the memory of a plain tensor.
pub(crate) fn is_unique(tensor: &Tensor) -> bool {
    // SAFETY: a live handle; plain, so it has a storage.
    unsafe { tch_autograd_is_unique(tensor.as_ptr()) != 0 }
}

/// Where the elements of a plain tensor are, to be read; `data_ptr` of tch would copy memory that a
/// [`Snapshot`] shares.
pub(crate) fn read_ptr(tensor: &Tensor) -> *const c_void {
    // SAFETY: a live handle; plain, so it has a storage.
    unsafe { tch_autograd_read_ptr(tensor.as_ptr()) }
}

/// Where the elements of a plain tensor are, to be written. A [`Snapshot`] keeps what it shows, and
/// autograd takes it as a change.
pub(crate) fn write_ptr(tensor: &mut Tensor) -> Result<*mut c_void, Error> {
    let (mut text, empty) = (std::ptr::null_mut(), tensor.numel() == 0);
    // SAFETY: a live handle; plain, so it has a storage; `text` is live for the call.
    let data = unsafe { tch_autograd_write_ptr(tensor.as_ptr(), &mut text) };
    if !text.is_null() || (data.is_null() && !empty) {
        // SAFETY: null or a text of the shim, used once.
        return Err(Error::Torch(unsafe { take_text(text) }));
    }
    Ok(data)
}

/// The memory of a tensor as it was when this was made.
///
/// The tensor's storage and this one share the memory by libtorch's copy-on-write: what writes to
/// the tensor, by whatever handle, resizes it or gives it other data, leaves this as it is. A write
/// without memory for a copy ends the process.
pub(crate) struct Snapshot(NonNull<CSnapshot>);

impl Snapshot {
    /// The snapshot, and where in it the elements of a plain CPU tensor are, valid as long as it is
    /// and never written; `None` where the tensor's memory is not libtorch's own.
    pub(crate) fn new(tensor: &Tensor) -> Option<(Self, *const c_void)> {
        let mut data = std::ptr::null();
        // SAFETY: a live handle; plain, so it has a storage; `data` is live for the call.
        let snapshot = unsafe { tch_autograd_snapshot_new(tensor.as_ptr(), &mut data) };
        NonNull::new(snapshot).map(|snapshot| (Self(snapshot), data))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // SAFETY: made by `tch_autograd_snapshot_new`, freed once.
        unsafe { tch_autograd_snapshot_free(self.0.as_ptr()) }
    }
}

//! Raw declarations of `shim/device.cpp`, and what their errors become.

use std::ffi::{c_char, c_int};
use std::marker::{PhantomData, PhantomPinned};
use std::ptr::null_mut;

use torch_sys::C_tensor;

use crate::error::Error;
use crate::ffi::take_text;

/// `Upload` of the shim; lives behind pointers only.
#[repr(C)]
pub(super) struct CUpload {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

unsafe extern "C" {
    pub(super) fn tch_device_memory(
        ordinal: c_int,
        free: *mut u64,
        total: *mut u64,
        text: *mut *mut c_char,
    ) -> c_int;
    pub(super) fn tch_device_allow_tf32(allow: c_int, text: *mut *mut c_char) -> c_int;
    pub(super) fn tch_device_allows_tf32(allows: *mut c_int, text: *mut *mut c_char) -> c_int;
    pub(super) fn tch_device_pinned(
        rows: i64,
        columns: i64,
        tensor: *mut *mut C_tensor,
        text: *mut *mut c_char,
    ) -> c_int;
    pub(super) fn tch_device_upload_new(
        ordinal: c_int,
        upload: *mut *mut CUpload,
        text: *mut *mut c_char,
    ) -> c_int;
    pub(super) fn tch_device_upload_free(upload: *mut CUpload);
    pub(super) fn tch_device_upload_start(
        upload: *mut CUpload,
        from: *const C_tensor,
        to: *mut C_tensor,
        text: *mut *mut c_char,
    ) -> c_int;
    pub(super) fn tch_device_upload_join(upload: *mut CUpload, text: *mut *mut c_char) -> c_int;
    pub(super) fn tch_device_upload_release(upload: *mut CUpload, text: *mut *mut c_char) -> c_int;
    pub(super) fn tch_device_upload_wait(upload: *mut CUpload, text: *mut *mut c_char) -> c_int;
}

/// The result of a function of the shim, which gets a place for its text.
pub(super) fn checked(call: impl FnOnce(*mut *mut c_char) -> c_int) -> Result<(), Error> {
    let mut text = null_mut();
    match call(&mut text) {
        0 => Ok(()),
        // SAFETY: the shim has left a text of its own there, which nobody else uses.
        _ => Err(Error::Torch(unsafe { take_text(text) })),
    }
}

//! Copies of rows from the host to a device beside its computation.

use std::mem::{ManuallyDrop, forget};
use std::ptr::{NonNull, null_mut};

use tch::{Device, Kind, Tensor};

use super::ffi::{self, CUpload, checked};
use crate::error::Error;

/// A matrix of f32 on a device with one on the host that it is filled from.
///
/// On a CUDA device the host's is pinned, and the copy runs on a stream of its own: [`start`] and
/// [`join`] wait for nothing. One such matrix is filled, copied, read and released again and
/// again; with several of them, one is copied while another is read. All but [`host`] is to be
/// called from the thread that computes.
///
/// [`start`]: Upload::start
/// [`join`]: Upload::join
/// [`host`]: Upload::host
#[derive(Debug)]
pub struct Upload {
    host: ManuallyDrop<Tensor>,
    target: Tensor,
    /// Absent on the CPU, where the copy is made at once.
    stream: Option<Stream>,
}

#[derive(Debug)]
struct Stream(NonNull<CUpload>);

// SAFETY: a stream and two events of CUDA, which belong to no thread; `Upload` gives them out to
// one at a time.
unsafe impl Send for Stream {}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by `tch_device_upload_new`, freed once.
        unsafe { ffi::tch_device_upload_free(self.0.as_ptr()) }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let waited = self.wait();
        let stream = self.stream.take();
        if waited.is_err() {
            // A device that has failed frees nothing, and libtorch would end the process over it.
            forget(stream);
            return;
        }
        // SAFETY: not used again.
        unsafe { ManuallyDrop::drop(&mut self.host) }
    }
}

impl Upload {
    /// A matrix of this size on `device`.
    ///
    /// # Errors
    /// Memory that is not there, or a device that libtorch cannot copy to so.
    pub fn new(rows: usize, columns: usize, device: Device) -> Result<Self, Error> {
        let size = [rows as i64, columns as i64];
        let options = (Kind::Float, Device::Cpu);
        let Device::Cuda(ordinal) = device else {
            let (host, target) = (Tensor::f_empty(size, options)?, Tensor::f_empty(size, options)?);
            return Ok(Self { host: ManuallyDrop::new(host), target, stream: None });
        };
        let target = Tensor::f_empty(size, (Kind::Float, device))?;
        let mut host = null_mut();
        // SAFETY: the shim writes a pointer to a new tensor through one that is live for the call.
        checked(|text| unsafe { ffi::tch_device_pinned(size[0], size[1], &mut host, text) })?;
        // SAFETY: a handle of its own, which this `Tensor` now owns.
        let host = ManuallyDrop::new(unsafe { Tensor::from_ptr(host) });
        let mut stream = null_mut();
        // SAFETY: as for the tensor.
        checked(|text| unsafe { ffi::tch_device_upload_new(ordinal as i32, &mut stream, text) })?;
        let stream = NonNull::new(stream).map(Stream);
        let mut this = Self { host, target, stream };
        // Its memory may have been that of a tensor that is still being read.
        this.release()?;
        Ok(this)
    }

    /// The rows on the host, to be filled, once the last copy of them is done.
    ///
    /// # Errors
    /// A device that has failed.
    pub fn host(&mut self) -> Result<&mut Tensor, Error> {
        self.wait()?;
        Ok(&mut self.host)
    }

    fn wait(&self) -> Result<(), Error> {
        // SAFETY: live as long as `self`.
        self.call(|stream, text| unsafe { ffi::tch_device_upload_wait(stream, text) })
    }

    /// Queues the copy.
    ///
    /// # Errors
    /// A device that has failed.
    pub fn start(&mut self) -> Result<(), Error> {
        let Some(stream) = &self.stream else {
            return Ok(self.target.f_copy_(&self.host)?);
        };
        let (stream, from, to) = (stream.0.as_ptr(), self.host.as_ptr(), self.target.as_mut_ptr());
        // SAFETY: all live as long as `self`, and of one size and kind.
        checked(|text| unsafe { ffi::tch_device_upload_start(stream, from, to, text) })
    }

    /// The rows on the device: what is computed with them comes after the copy.
    ///
    /// # Errors
    /// A device that has failed.
    pub fn join(&mut self) -> Result<Tensor, Error> {
        // SAFETY: live as long as `self`.
        self.call(|stream, text| unsafe { ffi::tch_device_upload_join(stream, text) })?;
        Ok(self.target.shallow_clone())
    }

    /// Says that all that reads the rows on the device has been queued: the next copy comes after
    /// it.
    ///
    /// # Errors
    /// A device that has failed.
    pub fn release(&mut self) -> Result<(), Error> {
        // SAFETY: live as long as `self`.
        self.call(|stream, text| unsafe { ffi::tch_device_upload_release(stream, text) })
    }

    /// Calls a function of the shim, where there is a stream.
    fn call(
        &self,
        function: impl FnOnce(*mut CUpload, *mut *mut std::ffi::c_char) -> i32,
    ) -> Result<(), Error> {
        match &self.stream {
            Some(stream) => checked(|text| function(stream.0.as_ptr(), text)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view_mut;

    #[test]
    fn what_is_filled_arrives_each_time() {
        let mut upload = Upload::new(2, 3, Device::Cpu).unwrap();
        for round in 0..3 {
            let rows = view_mut::<f32>(upload.host().unwrap()).unwrap();
            rows.iter_mut().enumerate().for_each(|(i, x)| *x = (6 * round + i) as f32);
            upload.start().unwrap();
            let rows = upload.join().unwrap();
            assert_eq!(rows.size(), [2, 3]);
            assert_eq!(rows.double_value(&[1, 2]), (6 * round + 5) as f64);
            upload.release().unwrap();
        }
    }
}

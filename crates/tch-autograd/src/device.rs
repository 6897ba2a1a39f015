//! Devices by name; libtorch's CUDA part is loaded when one of its devices is asked for.
//!
//! Programs are linked with the CPU part of libtorch alone, since linkers leave out a library of
//! which no symbol is used, and the same program has to run where there is no GPU. The CUDA part
//! registers its kernels with libtorch when it is loaded, which has to happen before libtorch is
//! asked anything about CUDA.

mod driver;
mod fault;
mod ffi;
mod library;
mod upload;

use std::path::PathBuf;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

use self::driver::{Driver, NoDevice};
use self::ffi::checked;
use self::library::{CUDA_LIBRARY, load_cuda};
use crate::error::Error;

pub use self::driver::Version;
pub use self::fault::{Fault, catch};
pub use self::upload::Upload;

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not the name of a device.
    #[error("expected `cpu`, `cuda` or `cuda:N`, got `{name}`")]
    Name {
        /// What was given.
        name: String,
    },
    /// The libtorch of this process is a build for the CPU alone.
    #[error(
        "{folder} is a build of libtorch for the CPU alone: it has no {CUDA_LIBRARY}; use one with \
         CUDA", folder = folder.display()
    )]
    CpuBuild {
        /// The folder of its libraries.
        folder: PathBuf,
    },
    /// The CUDA part of libtorch, or a library that it needs, cannot be loaded.
    #[error("the CUDA part of libtorch cannot be loaded: {message}; {remedy}")]
    Loader {
        /// What the system's loader said, which names the library.
        message: String,
        /// What mends it.
        remedy: &'static str,
    },
    /// CUDA finds no device.
    #[error("CUDA finds no device: {reason}")]
    NoDevice {
        /// What is known of the driver and the environment, and what to do.
        reason: String,
    },
    /// There are devices, but not this one.
    #[error("expected a CUDA device from 0 to {last}, got {got}{visible}")]
    Ordinal {
        /// The last device.
        last: usize,
        /// The device that was asked for.
        got: usize,
        /// What the environment leaves of the machine's devices, as the end of a sentence.
        visible: String,
    },
    /// There is a device, but nothing can be computed on it.
    #[error("nothing can be computed on cuda:{ordinal}: {message}; {remedy}")]
    Unusable {
        /// The device.
        ordinal: usize,
        /// What libtorch said.
        message: String,
        /// What mends it.
        remedy: &'static str,
    },
}

/// The device of a name: `cpu`, `cuda:N`, or `cuda` for the first one; a CUDA device has been seen
/// to compute.
///
/// libtorch's CUDA part is loaded when the first CUDA device is asked for. Ask here before libtorch
/// is asked about CUDA in any other way: it remembers that there was none.
///
/// ```
/// assert_eq!(tch_autograd::device("cpu"), Ok(tch::Device::Cpu));
/// let error = tch_autograd::device("gpu").unwrap_err();
/// assert_eq!(error.to_string(), "expected `cpu`, `cuda` or `cuda:N`, got `gpu`");
/// ```
///
/// # Errors
/// [`DeviceError`], which says what is missing: the CUDA build of libtorch, a library, the driver,
/// the device, its memory, or kernels for it.
pub fn device(name: &str) -> Result<Device, DeviceError> {
    static LOADED: OnceLock<Result<(), DeviceError>> = OnceLock::new();
    let ordinal = match (name, name.strip_prefix("cuda:")) {
        ("cpu", _) => return Ok(Device::Cpu),
        ("cuda", _) => Some(0),
        (_, ordinal) => ordinal.and_then(|ordinal| ordinal.parse::<usize>().ok()),
    };
    let ordinal = ordinal.ok_or_else(|| DeviceError::Name { name: name.to_owned() })?;
    LOADED.get_or_init(load_cuda).clone()?;
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(n) if ordinal < n => try_out(ordinal),
        Ok(n) if n > 0 => Err(not_there(n, ordinal, std::env::var("CUDA_VISIBLE_DEVICES").ok())),
        _ => Err(DeviceError::NoDevice { reason: NoDevice::look().reason() }),
    }
}

fn not_there(n: usize, got: usize, visible: Option<String>) -> DeviceError {
    let visible = visible.map_or_else(String::new, |visible| {
        format!(", since CUDA_VISIBLE_DEVICES is `{visible}`: devices are counted among those")
    });
    DeviceError::Ordinal { last: n - 1, got, visible }
}

/// Computes a little on a device that is there.
fn try_out(ordinal: usize) -> Result<Device, DeviceError> {
    let device = Device::Cuda(ordinal);
    let computed = Tensor::f_ones([2], (Kind::Float, device))
        .and_then(|ones| ones.f_sum(Kind::Float))
        .and_then(|sum| sum.f_double_value(&[]));
    match computed {
        Ok(_) => Ok(device),
        Err(error) => Err(unusable(ordinal, &error.to_string())),
    }
}

fn unusable(ordinal: usize, text: &str) -> DeviceError {
    let remedy = if text.contains("no kernel image") {
        "this PyTorch has no kernels for a card of its age: use one that supports it"
    } else if text.contains("out of memory") || text.contains("ALLOC_FAILED") {
        "other processes have its memory: wait for them, or choose another device (`nvidia-smi` \
         lists both)"
    } else if text.contains("busy or unavailable") {
        "another process has it to itself: wait for that one, or choose another device"
    } else {
        "`nvidia-smi` tells the state of the card"
    };
    let message = text.lines().next().unwrap_or_default().to_owned();
    DeviceError::Unusable { ordinal, message, remedy }
}

/// The compute capability of a CUDA device, where the driver tells it.
#[must_use]
pub fn capability(device: Device) -> Option<Version> {
    let Device::Cuda(ordinal) = device else { return None };
    Driver::load()?.capability(ordinal)
}

/// Memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What no process has.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

impl DeviceMemory {
    /// The memory of a device as it is now: of the CPU, that of the machine, where the system tells
    /// it.
    ///
    /// # Errors
    /// A device of another kind, or one that has failed.
    pub fn of(device: Device) -> Result<Option<Self>, Error> {
        let ordinal = match device {
            Device::Cpu => {
                let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
                return Ok(of_machine(&text));
            }
            Device::Cuda(ordinal) => ordinal,
            other => {
                return Err(Error::Torch(format!("expected a CPU or CUDA device, got {other:?}")));
            }
        };
        let (mut free, mut total) = (0, 0);
        checked(|text| {
            // SAFETY: the shim writes two numbers through pointers that are live for the call.
            unsafe { ffi::tch_device_memory(ordinal as i32, &mut free, &mut total, text) }
        })?;
        Ok(Some(Self { free, total }))
    }
}

/// What `/proc/meminfo` says.
fn of_machine(text: &str) -> Option<DeviceMemory> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some(DeviceMemory { free: bytes("MemAvailable:")?, total: bytes("MemTotal:")? })
}

/// Sets for this process whether products of f32 matrices on CUDA devices may round their factors
/// to TF32.
///
/// # Errors
/// What libtorch says against it.
pub fn allow_tf32(allow: bool) -> Result<(), Error> {
    // SAFETY: no pointers but that of the text.
    checked(|text| unsafe { ffi::tch_device_allow_tf32(allow.into(), text) })
}

/// Whether they may.
///
/// # Errors
/// Settings of libtorch that contradict each other.
pub fn allows_tf32() -> Result<bool, Error> {
    let mut allows = 0;
    // SAFETY: the shim writes a number through a pointer that is live for the call.
    checked(|text| unsafe { ffi::tch_device_allows_tf32(&mut allows, text) })?;
    Ok(allows != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_hidden_or_unusable_comes_with_the_remedy() {
        let hidden = not_there(1, 3, Some("5".into())).to_string();
        let expected = "expected a CUDA device from 0 to 0, got 3, since CUDA_VISIBLE_DEVICES is \
                        `5`: devices are counted among those";
        assert_eq!(hidden, expected);
        let absent = not_there(2, 3, None).to_string();
        assert_eq!(absent, "expected a CUDA device from 0 to 1, got 3");
        for (text, words) in [
            ("CUDA error: out of memory\nCUDA kernel errors might be", "other processes"),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", "other processes"),
            ("CUDA error: no kernel image is available for execution on the device", "no kernels"),
            ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "to itself"),
            ("CUDA error: unknown error", "`nvidia-smi` tells"),
        ] {
            let message = unusable(2, text).to_string();
            assert!(message.starts_with("nothing can be computed on cuda:2: CUDA error"));
            assert!(message.contains(words) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        let text = "MemTotal:       24000 kB\nMemFree:  1 kB\nMemAvailable:   7000 kB\n";
        let expected = DeviceMemory { free: 7000 << 10, total: 24000 << 10 };
        assert_eq!(of_machine(text), Some(expected));
        assert_eq!(of_machine("MemTotal: 24000 kB\n"), None);
        let here = DeviceMemory::of(Device::Cpu).unwrap().unwrap();
        assert!(here.free > 0 && here.free <= here.total);
        assert!(DeviceMemory::of(Device::Mps).is_err());
    }

    #[test]
    fn tf32_is_allowed_as_it_was_set() {
        for allow in [true, false] {
            allow_tf32(allow).unwrap();
            assert_eq!(allows_tf32().unwrap(), allow);
        }
    }

    #[test]
    fn the_memory_of_the_cpu_is_that_of_the_machine() {
        let memory = DeviceMemory::of(Device::Cpu).unwrap();
        assert!(memory.is_none_or(|memory| memory.free > 0 && memory.free <= memory.total));
        assert_eq!(capability(Device::Cpu), None);
    }
}

//! Devices by name; libtorch's CUDA part is loaded when one of its devices is asked for.
//!
//! Programs are linked with the CPU part of libtorch alone, since linkers leave out a library of
//! which no symbol is used, and the same program has to run where there is no GPU. The CUDA part
//! registers its kernels with libtorch when it is loaded, which has to happen before libtorch is
//! asked anything about CUDA.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::Device;

/// The library that registers the CUDA kernels.
const CUDA_LIBRARY: &str = "libtorch_cuda.so";
/// The library that lies beside it and is part of every process with libtorch.
const CPU_LIBRARY: &str = "libtorch_cpu.so";

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
    #[error("the CUDA part of libtorch cannot be loaded: {message}")]
    Loader {
        /// What the system's loader said, which names the library.
        message: String,
    },
    /// CUDA finds no device.
    #[error("CUDA finds no device: {reason}")]
    NoDevice {
        /// What is known of the driver and the environment.
        reason: String,
    },
    /// There are devices, but not this one.
    #[error("expected a CUDA device from 0 to {last}, got {got}")]
    Ordinal {
        /// The last device.
        last: usize,
        /// The device that was asked for.
        got: usize,
    },
}

/// The device of a name: `cpu`, `cuda:N`, or `cuda` for the first one.
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
/// or the device.
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
        Ok(n) if ordinal < n => Ok(Device::Cuda(ordinal)),
        Ok(n) if n > 0 => Err(DeviceError::Ordinal { last: n - 1, got: ordinal }),
        _ => Err(DeviceError::NoDevice { reason: no_device() }),
    }
}

/// Loads the CUDA part that lies beside the CPU part of this process.
fn load_cuda() -> Result<(), DeviceError> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Some(folder) = folder_of(CPU_LIBRARY, &maps) else {
        // The loader looks where it looks for libtorch.
        return load_library(Path::new(CUDA_LIBRARY));
    };
    let path = folder.join(CUDA_LIBRARY);
    if path.exists() { load_library(&path) } else { Err(DeviceError::CpuBuild { folder }) }
}

/// The folder that a library of a process was loaded from.
fn folder_of(library: &str, maps: &str) -> Option<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    paths.filter(|path| path.ends_with(library)).find_map(|path| Some(path.parent()?.to_owned()))
}

/// Loads a library for the rest of the process; its symbols are visible to those loaded later.
fn load_library(path: &Path) -> Result<(), DeviceError> {
    // SAFETY: runs the initialisers of a library of libtorch, which are made to run at loading.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    match library {
        Ok(library) => {
            // Its kernels stay registered, so it must never go.
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => {
            // What the loader said is the cause of the error.
            let cause = error.source().map(ToString::to_string);
            Err(DeviceError::Loader { message: cause.unwrap_or_else(|| error.to_string()) })
        }
    }
}

/// Why CUDA may see no device.
fn no_device() -> String {
    if let Ok(visible) = std::env::var("CUDA_VISIBLE_DEVICES") {
        return format!("CUDA_VISIBLE_DEVICES is `{visible}`");
    }
    match std::fs::read_to_string("/proc/driver/nvidia/version") {
        Ok(version) => {
            let driver = version.lines().next().unwrap_or_default().trim();
            format!("the driver may be too old for this libtorch ({driver})")
        }
        Err(_) => "no NVIDIA driver is loaded".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_folder_is_that_of_the_mapped_library() {
        let maps = "7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/libc.so.6\n\
                    7f02-7f03 r--p 00000000 08:01 13 /opt/my torch/lib/libtorch_cpu.so\n\
                    7f04-7f05 rw-p 00000000 00:00 0 \n";
        assert_eq!(folder_of(CPU_LIBRARY, maps), Some(PathBuf::from("/opt/my torch/lib")));
        assert_eq!(folder_of("torch_cpu.so", maps), None);
    }

    #[test]
    fn a_library_that_cannot_be_loaded_is_named_by_the_loader() {
        let folder = std::env::temp_dir().join(format!("tch-autograd-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("libbroken.so");
        std::fs::write(&path, "not a library").unwrap();
        let error = load_library(&path).unwrap_err().to_string();
        assert!(error.contains("libbroken.so: file too short"), "{error}");
        let error = load_library(&folder.join("libnone.so")).unwrap_err().to_string();
        assert!(error.contains("libnone.so: cannot open shared object file"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_loaded_library_is_mapped() {
        let folder =
            std::env::temp_dir().join(format!("tch-autograd-mapped-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (source, library) = (folder.join("empty.cpp"), folder.join("libempty.so"));
        std::fs::write(&source, "int nothing;\n").unwrap();
        let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "g++".into()));
        assert!(
            compiler
                .args(["-shared", "-fPIC", "-o"])
                .arg(&library)
                .arg(&source)
                .status()
                .unwrap()
                .success()
        );
        load_library(&library).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert_eq!(folder_of("libempty.so", &maps), Some(folder.canonicalize().unwrap()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

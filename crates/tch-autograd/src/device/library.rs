//! libtorch's CUDA part, loaded when it is asked for.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::DeviceError;

/// The library that registers the CUDA kernels.
pub(super) const CUDA_LIBRARY: &str = "libtorch_cuda.so";
/// The library that lies beside it and is part of every process with libtorch.
const CPU_LIBRARY: &str = "libtorch_cpu.so";

/// Loads the CUDA part that lies beside the CPU part of this process.
pub(super) fn load_cuda() -> Result<(), DeviceError> {
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
            let message = cause.unwrap_or_else(|| error.to_string());
            let remedy = remedy(&message);
            Err(DeviceError::Loader { message, remedy })
        }
    }
}

/// What mends an error of the loader.
fn remedy(message: &str) -> &'static str {
    if message.contains("undefined symbol") || message.contains("version `") {
        "it is of another version than libtorch_cpu.so, or needs other libraries than it found: take \
         all libraries from one PyTorch"
    } else if message.contains("cannot open shared object file") {
        "install the library that is named, which PyTorch's own packages bring along, or add its \
         folder to LD_LIBRARY_PATH"
    } else {
        "install PyTorch anew"
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

    /// Builds `source` into the library `name` of a folder of this test.
    fn build(test: &str, name: &str, source: &str) -> (PathBuf, PathBuf) {
        let folder =
            std::env::temp_dir().join(format!("tch-autograd-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, library) = (folder.join("source.cpp"), folder.join(name));
        std::fs::write(&file, source).unwrap();
        let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "g++".into()));
        let built = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&file).status();
        assert!(built.unwrap().success());
        (folder, library)
    }

    #[test]
    fn a_library_that_cannot_be_loaded_is_named_by_the_loader() {
        let needs_more = "extern void nowhere(); void call() { nowhere(); }\n";
        let (folder, newer) = build("broken", "libnewer.so", needs_more);
        let error = load_library(&newer).unwrap_err().to_string();
        assert!(error.contains("libnewer.so: undefined symbol"), "{error}");
        assert!(error.ends_with("take all libraries from one PyTorch"), "{error}");
        let path = folder.join("libbroken.so");
        std::fs::write(&path, "not a library").unwrap();
        let error = load_library(&path).unwrap_err().to_string();
        assert!(error.contains("libbroken.so: file too short"), "{error}");
        assert!(error.ends_with("install PyTorch anew"), "{error}");
        let error = load_library(&folder.join("libnone.so")).unwrap_err().to_string();
        assert!(error.contains("libnone.so: cannot open shared object file"), "{error}");
        assert!(error.ends_with("or add its folder to LD_LIBRARY_PATH"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_loaded_library_is_mapped() {
        let (folder, library) = build("mapped", "libempty.so", "int nothing;\n");
        load_library(&library).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert_eq!(folder_of("libempty.so", &maps), Some(folder.canonicalize().unwrap()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

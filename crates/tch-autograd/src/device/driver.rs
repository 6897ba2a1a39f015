//! What NVIDIA's driver tells of itself and of its cards.

use std::ffi::c_int;
use std::fmt;
use std::path::Path;

use libloading::os::unix::Library;

const DRIVER_LIBRARY: &str = "libcuda.so.1";
/// Attributes of a card, by the numbers of the driver's interface.
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;

/// A version of CUDA, or the compute capability of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the point.
    pub major: u32,
    /// After it.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// From a number such as 12040, of version 12.4.
    pub(super) fn of_cuda(number: i64) -> Option<Self> {
        let number = u32::try_from(number).ok().filter(|number| *number > 0)?;
        Some(Self { major: number / 1000, minor: number % 1000 / 10 })
    }
}

/// The driver's library.
pub(super) struct Driver(Library);

impl Driver {
    pub(super) fn load() -> Option<Self> {
        Self::open(Path::new(DRIVER_LIBRARY))
    }

    fn open(path: &Path) -> Option<Self> {
        // SAFETY: runs the initialisers of the driver's library, which libtorch loads too.
        unsafe { Library::new(path) }.ok().map(Self)
    }

    /// The newest CUDA that it supports.
    pub(super) fn cuda(&self) -> Option<Version> {
        let mut number = 0;
        // SAFETY: the declared type of this function, in all versions of the interface; it writes
        // through a pointer that is live for the call.
        let status = unsafe {
            let version =
                self.0.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cuDriverGetVersion\0");
            version.ok()?(&mut number)
        };
        Version::of_cuda(number.into()).filter(|_| status == 0)
    }

    /// The compute capability of a card; the driver is in use already.
    pub(super) fn capability(&self, ordinal: usize) -> Option<Version> {
        let mut card = 0;
        // SAFETY: as above; a card is a C int.
        let status = unsafe {
            let get =
                self.0.get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet\0");
            get.ok()?(&mut card, c_int::try_from(ordinal).ok()?)
        };
        if status != 0 {
            return None;
        }
        let attribute = |number: c_int| {
            let mut value = 0;
            // SAFETY: as above; `card` is one that the driver has given.
            let status = unsafe {
                let get = self.0.get::<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>(
                    b"cuDeviceGetAttribute\0",
                );
                get.ok()?(&mut value, number, card)
            };
            u32::try_from(value).ok().filter(|_| status == 0)
        };
        Some(Version { major: attribute(CAPABILITY_MAJOR)?, minor: attribute(CAPABILITY_MINOR)? })
    }
}

/// What is known where CUDA finds no device.
pub(super) struct NoDevice {
    /// `CUDA_VISIBLE_DEVICES`, where it is set.
    pub(super) visible: Option<String>,
    /// Whether the kernel has the driver, or its library is there.
    pub(super) has_driver: bool,
    /// The CUDA that the driver supports, and the one that libtorch was built with.
    pub(super) driver: Option<Version>,
    pub(super) libtorch: Option<Version>,
}

impl NoDevice {
    pub(super) fn look() -> Self {
        let driver = Driver::load();
        Self {
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
            has_driver: driver.is_some() || Path::new("/proc/driver/nvidia/version").exists(),
            driver: driver.and_then(|driver| driver.cuda()),
            libtorch: Version::of_cuda(tch::utils::version_cudart()),
        }
    }

    /// Why there is none, and what to do.
    pub(super) fn reason(&self) -> String {
        if !self.has_driver {
            return "no NVIDIA driver is loaded: use a machine with a GPU and its driver, or `cpu`"
                .to_owned();
        }
        if let (Some(driver), Some(libtorch)) = (self.driver, self.libtorch)
            && driver.major < libtorch.major
        {
            return format!(
                "the driver is too old: it supports CUDA {driver}, and this libtorch is for CUDA \
                 {libtorch}; update the driver, or use a PyTorch for CUDA {}",
                driver.major
            );
        }
        match &self.visible {
            Some(visible) => format!(
                "CUDA_VISIBLE_DEVICES is `{visible}`, which hides the GPUs of this machine or names \
                 none; unset it, or name one that `nvidia-smi -L` lists"
            ),
            None => "`nvidia-smi` tells whether the driver sees a GPU".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A driver that supports CUDA 12.4, with two cards, the second of compute capability 7.5.
    const SOURCE: &str = "extern \"C\" int cuDriverGetVersion(int *v) { *v = 12040; return 0; }\n\
        extern \"C\" int cuDeviceGet(int *card, int n) { *card = n + 40; return n < 2 ? 0 : 101; }\n\
        extern \"C\" int cuDeviceGetAttribute(int *v, int number, int card) {\n\
          if (card == 41) *v = number == 75 ? 7 : number == 76 ? 5 : -1;\n\
          return card == 41 ? 0 : 101; }\n";

    #[test]
    fn the_driver_is_asked_as_it_answers() {
        let folder =
            std::env::temp_dir().join(format!("tch-autograd-driver-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (source, library) = (folder.join("driver.cpp"), folder.join("libdriver.so"));
        std::fs::write(&source, SOURCE).unwrap();
        let mut compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "g++".into()));
        let built = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(built.unwrap().success());
        let driver = Driver::open(&library).unwrap();
        assert_eq!(driver.cuda(), Some(Version { major: 12, minor: 4 }));
        assert_eq!(driver.capability(1).unwrap().to_string(), "7.5");
        assert_eq!((driver.capability(0), driver.capability(2)), (None, None));
        assert!(Driver::open(&folder.join("none.so")).is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_reason_is_the_first_that_applies() {
        let version = |major, minor| Some(Version { major, minor });
        let look = |visible: Option<&str>, has_driver, driver, libtorch| {
            NoDevice { visible: visible.map(str::to_owned), has_driver, driver, libtorch }.reason()
        };
        let none = look(Some(""), false, None, version(13, 0));
        assert!(none.starts_with("no NVIDIA driver is loaded"), "{none}");
        let old = look(Some("0"), true, version(12, 4), version(13, 0));
        assert_eq!(
            old,
            "the driver is too old: it supports CUDA 12.4, and this libtorch is for CUDA 13.0; \
             update the driver, or use a PyTorch for CUDA 12"
        );
        // Within a major version, libraries work with older drivers.
        let hidden = look(Some("7"), true, version(13, 0), version(13, 2));
        assert!(hidden.starts_with("CUDA_VISIBLE_DEVICES is `7`, which hides"), "{hidden}");
        assert!(look(None, true, version(13, 2), version(13, 0)).starts_with("`nvidia-smi` tells"));
        assert!(look(None, true, None, None).starts_with("`nvidia-smi` tells"));
    }

    #[test]
    fn versions_of_cuda_are_read_and_compared() {
        assert_eq!(Version::of_cuda(13020).unwrap().to_string(), "13.2");
        assert_eq!(Version::of_cuda(11080).unwrap().to_string(), "11.8");
        assert_eq!((Version::of_cuda(0), Version::of_cuda(-1)), (None, None));
        assert!(Version::of_cuda(9020) < Version::of_cuda(12000));
    }
}

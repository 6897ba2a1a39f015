//! Faults of a device and of memory, which libtorch tells by texts alone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Texts that tell of memory that could not be had.
const MEMORY: [&str; 6] = [
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator:",
    "std::bad_alloc",
];

/// Texts that tell of a device that no longer computes.
const DEVICE: [&str; 6] = [
    "CUDA error:",
    "CUDA driver error:",
    "CUBLAS_STATUS_",
    "cuBLAS error:",
    "cuDNN error:",
    "CUSOLVER_STATUS_",
];

/// What a text of libtorch tells of a device or of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There was not as much memory as an operation wanted.
    #[error("out of memory: {message}")]
    Memory {
        /// What libtorch said.
        message: String,
    },
    /// The device failed, and computes nothing more in this process.
    #[error("the device failed: {message}")]
    Device {
        /// What libtorch said.
        message: String,
    },
}

impl Fault {
    /// The fault that `text` tells of; none where it tells of something else.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        // The text of a panic quotes that of the error.
        let first = |texts: &[&str]| texts.iter().filter_map(|known| text.find(known)).min();
        let message = |at: usize| {
            let rest = &text[at..];
            let ends = ["\n", "\\n", " If reserved but", "\"", " (function "];
            let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
            rest[..end].trim_end().to_owned()
        };
        if let Some(at) = first(&MEMORY) {
            return Some(Self::Memory { message: message(at) });
        }
        first(&DEVICE).map(|at| Self::Device { message: message(at) })
    }
}

/// How many calls of [`catch`] are under way.
static CATCHING: AtomicUsize = AtomicUsize::new(0);

/// Runs `work`; where it panics since libtorch tells of a [`Fault`], as tch's operators do, that is
/// the error, and nothing is printed. Any other panic goes on.
///
/// # Errors
/// The fault.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Fault> {
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            CATCHING.fetch_sub(1, Ordering::SeqCst);
        }
    }
    quieten();
    CATCHING.fetch_add(1, Ordering::SeqCst);
    let _done = Done;
    // Who catches a fault gives up what it worked on.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        text_of(panic.as_ref()).and_then(Fault::of_text).unwrap_or_else(|| resume_unwind(panic))
    })
}

/// The text that a panic was raised with.
fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}

/// Lets the process print no panic of a fault that is going to be caught.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let fault = text_of(panic.payload()).and_then(Fault::of_text);
            if CATCHING.load(Ordering::SeqCst) == 0 || fault.is_none() {
                before(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Texts as libtorch 2.11 to 2.13 write them.
    const TEXTS: [(&str, bool, &str); 8] = [
        (
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.20 GiB \
             of which 9.19 GiB is free. Including non-PyTorch memory, this process has 70.00 GiB \
             memory in use. Of the allocated memory 69.00 GiB is allocated by PyTorch, and 400.00 MiB \
             is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try \
             setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.",
            true,
            "reserved by PyTorch but unallocated.",
        ),
        (
            "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in ...",
            true,
            "CUDA error: out of memory",
        ),
        (
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            true,
            "`cublasCreate(handle)`",
        ),
        (
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: \
             you tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)\n\
             frame #0",
            true,
            "(Cannot allocate memory)",
        ),
        (
            "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously \
             reported at some other API call",
            false,
            "CUDA error: unspecified launch failure",
        ),
        (
            "CUDA error: uncorrectable ECC error encountered\nCompile with TORCH_USE_CUDA_DSA",
            false,
            "CUDA error: uncorrectable ECC error encountered",
        ),
        (
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa)`",
            false,
            "opa)`",
        ),
        ("the backward of SoftTopK panicked: CUDA error: unknown error", false, "unknown error"),
    ];

    #[test]
    fn texts_of_libtorch_are_told_apart() {
        for (text, is_memory, end) in TEXTS {
            let fault = Fault::of_text(text).unwrap();
            let (Fault::Memory { message } | Fault::Device { message }) = &fault;
            assert_eq!(matches!(fault, Fault::Memory { .. }), is_memory, "{text}");
            assert!(message.ends_with(end) && !message.contains('\n'), "{message}");
        }
        for text in ["mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", "", "step 4"] {
            assert_eq!(Fault::of_text(text), None, "{text}");
        }
    }

    #[test]
    fn faults_are_caught_as_tch_panics_with_them_and_nothing_else_is() {
        for (text, is_memory, _) in TEXTS {
            let operator = || Err::<(), _>(tch::TchError::Torch(text.to_owned()));
            let fault = catch(|| operator().unwrap()).unwrap_err();
            assert_eq!(fault, Fault::of_text(text).unwrap(), "quoted or not, it is the same text");
            assert_eq!(matches!(fault, Fault::Memory { .. }), is_memory);
        }
        assert_eq!(catch(|| 7), Ok(7));
        let other = catch_unwind(|| catch(|| panic_any("another fault")));
        assert_eq!(other.unwrap_err().downcast_ref::<&str>(), Some(&"another fault"));
    }

    /// The allocator of this machine, whose text no table can get wrong.
    #[test]
    fn memory_that_is_not_there_is_a_fault_of_memory() {
        let fault = catch(|| {
            let options = (tch::Kind::Float, tch::Device::Cpu);
            drop(tch::Tensor::zeros([1 << 50], options));
        });
        assert!(matches!(fault, Err(Fault::Memory { .. })), "{fault:?}");
    }
}

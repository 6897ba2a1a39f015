//! Reads of values from a device: each waits for all that the device has still to compute.
//!
//! Code that is to keep a GPU busy reads through here and nowhere else, so that
//! [`count`] tells how often it waited. On the CPU a read waits for nothing; where another way
//! costs no read, [`waits`] decides between the two.

use std::cell::Cell;

use tch::{Device, TchError, Tensor};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static CPU_WAITS: Cell<bool> = const { Cell::new(false) };
}

/// The value of a tensor with one element.
///
/// # Panics
/// Where libtorch fails, as tch's own operators do.
#[must_use]
pub fn number(tensor: &Tensor) -> f64 {
    counted();
    tensor.double_value(&[])
}

/// The value of a tensor of whole numbers with one element.
///
/// # Panics
/// Where libtorch fails, as tch's own operators do.
#[must_use]
pub fn whole_number(tensor: &Tensor) -> i64 {
    counted();
    tensor.int64_value(&[])
}

/// The values of a vector.
///
/// # Errors
/// A tensor that is no vector.
pub fn vector<T: tch::kind::Element + Copy>(tensor: &Tensor) -> Result<Vec<T>, TchError> {
    counted();
    Vec::try_from(tensor)
}

/// The places of the true entries of a vector.
///
/// # Panics
/// Where libtorch fails, as tch's own operators do.
pub fn places(flags: &Tensor) -> Tensor {
    counted();
    flags.nonzero().squeeze_dim(1)
}

/// How many reads the thread has made.
#[must_use]
pub fn count() -> u64 {
    COUNT.get()
}

/// Whether a read of a value on `device` waits for a computation: on all but the CPU.
#[must_use]
pub fn waits(device: Device) -> bool {
    device != Device::Cpu || CPU_WAITS.get()
}

/// Runs `work` with [`waits`] true of the CPU too: what is done there for the sake of a GPU can be
/// tested without one.
pub fn as_on_a_gpu<T>(work: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            CPU_WAITS.set(self.0);
        }
    }
    let _back = Back(CPU_WAITS.replace(true));
    work()
}

fn counted() {
    COUNT.set(COUNT.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_read_counts_once() {
        let values = Tensor::from_slice(&[0i64, 3, 0, 5]);
        let before = count();
        assert_eq!(number(&values.max()), 5.0);
        assert_eq!(whole_number(&values.sum(tch::Kind::Int64)), 8);
        assert_eq!(vector::<i64>(&values).unwrap(), [0, 3, 0, 5]);
        assert_eq!(places(&values.gt(0)), Tensor::from_slice(&[1i64, 3]));
        assert_eq!(count() - before, 4);
        assert!(vector::<i64>(&values.reshape([2, 2])).is_err());
    }

    #[test]
    fn the_cpu_waits_only_within_the_work() {
        assert!(waits(Device::Cuda(0)) && !waits(Device::Cpu));
        assert!(as_on_a_gpu(|| waits(Device::Cpu)));
        let caught =
            std::panic::catch_unwind(|| as_on_a_gpu(|| std::panic::resume_unwind(Box::new(()))));
        assert!(caught.is_err() && !waits(Device::Cpu));
    }
}

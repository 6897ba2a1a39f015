//! The device that tests run on.

use tch::Device;

use crate::device;

/// The device that the environment variable `SOFTSAE_TEST_DEVICE` names; the CPU if it names none.
///
/// # Panics
/// If that device cannot be used: a test of a device must not pass on another.
#[must_use]
pub fn test_device() -> Device {
    let name = test_device_name();
    device(&name).unwrap_or_else(|error| panic!("SOFTSAE_TEST_DEVICE: {error}"))
}

/// The name of [`test_device`], as a run's `training.device` takes it.
#[must_use]
pub fn test_device_name() -> String {
    std::env::var("SOFTSAE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

//! Measuring on a device that works on its own time.

use std::time::Instant;

use criterion::Criterion;
use tch::Device;

/// The device that `SOFTSAE_BENCH_DEVICE` names; the CPU if it names none. Where it cannot be used,
/// the process ends with exit code 2.
pub fn device() -> Device {
    let name = std::env::var("SOFTSAE_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into());
    tch_autograd::device(&name).unwrap_or_else(|error| {
        eprintln!("error: device: {error}");
        std::process::exit(2)
    })
}

/// The end of the ids of measurements on a device; those on the CPU have none.
pub fn id_suffix(device: Device) -> String {
    match device {
        Device::Cuda(ordinal) => format!("/cuda:{ordinal}"),
        _ => String::new(),
    }
}

/// Measures `work` from the first call until the device has done the last.
///
/// On a GPU, calls are queued one after the other, as a training loop queues its steps: the time is
/// that of the GPU, or of queueing if that takes longer.
pub fn measure(criterion: &mut Criterion, id: &str, device: Device, work: &mut dyn FnMut()) {
    criterion.bench_function(id, |bencher| {
        bencher.iter_custom(|calls| {
            synchronize(device);
            let start = Instant::now();
            (0..calls).for_each(|_| work());
            synchronize(device);
            start.elapsed()
        });
    });
}

fn synchronize(device: Device) {
    if let Device::Cuda(ordinal) = device {
        tch::Cuda::synchronize(ordinal as i64);
    }
}

//! What is printed of the time and the memory of a run.

use sae_train::Profile;

use crate::output::say;

/// Prints the mean time of each part of a step, and the peak of memory.
pub(super) fn print_profile(profile: Option<&Profile>) {
    match profile {
        Some(profile) => {
            let total: f64 = profile.parts().map(|(_, time)| time.as_secs_f64()).sum();
            say!("{:24} {:>10}  share, mean of {} steps", "part", "ms", profile.steps());
            for (part, time) in profile.parts() {
                let time = time.as_secs_f64();
                say!("{part:24} {:>10.2}  {:.3}", time * 1e3, time / total);
            }
            say!("{:24} {:>10.2}", "step", total * 1e3);
        }
        None => say!("parts of a step: measured on the CPU only"),
    }
    if let Some(bytes) = peak_memory() {
        say!("{:24} {:>10} MB", "peak resident memory", bytes / 1_000_000);
    }
}

/// The most memory this process has held, where the system says so.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

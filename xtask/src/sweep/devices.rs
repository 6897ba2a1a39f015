//! The devices that runs are spread over: whether this machine has them.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::memory;
use crate::exit::usage;

/// What drivers of GPUs leave in the file system: NVIDIA's own, and that of Windows below Linux.
const DRIVERS: [&str; 2] = ["/dev/nvidiactl", "/dev/dxg"];

/// Refuses what names no device.
pub(super) fn check_names(devices: &[String]) -> Result<()> {
    for device in devices {
        let ordinal = device.strip_prefix("cuda:").map(str::parse::<usize>);
        if !["cpu", "cuda"].contains(&device.as_str()) && !matches!(ordinal, Some(Ok(_))) {
            bail!(usage(format!("--devices: expected `cpu` or `cuda:N`, got `{device}`")));
        }
    }
    Ok(())
}

/// Refuses devices that this machine has not, as far as that can be known without libtorch; the
/// first run finds out the rest. `key` is what names them.
pub(super) fn check_present(key: &str, devices: &[String]) -> Result<()> {
    for device in devices.iter().filter(|device| *device != "cpu") {
        if let Some(why) = absent(device) {
            bail!(usage(format!(
                "{key}: expected a device of this machine, got `{device}`: {why}"
            )));
        }
    }
    Ok(())
}

/// Why a GPU cannot be there, if that is known.
fn absent(device: &str) -> Option<String> {
    let list = Command::new("nvidia-smi").arg("-L").output();
    let answers = list.is_ok_and(|output| output.status.success());
    if !answers && !DRIVERS.iter().any(|driver| Path::new(driver).exists()) {
        return Some("no driver of a GPU is here".into());
    }
    match memory::visible(device) {
        None => Some("CUDA_VISIBLE_DEVICES has fewer".into()),
        // Parts of a GPU are not asked for by name.
        Some(name) if answers && name.parse::<usize>().is_ok() => {
            let unknown = memory::nvidia_smi(device, "name").is_none();
            unknown.then(|| format!("nvidia-smi knows no GPU {name}"))
        }
        Some(_) => None,
    }
}

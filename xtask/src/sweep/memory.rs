//! Memory: what the machine has, what processes hold, what runs will take.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sae_config::write_toml;
use tempfile::TempDir;

use super::child;
use super::job::Job;
use super::plan::PlannedRun;
use crate::exit::usage;

/// What libtorch, the loader's buffers and the program itself take beside what a run is planned to.
const BESIDE: u64 = 400_000_000;

/// Bytes that processes may still take, where the system says so: of the machine, or of the control
/// group that this process is in.
pub(super) fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let of_machine = kilobytes(&text, "MemAvailable:")?;
    Some(of_group().map_or(of_machine, |of_group| of_machine.min(of_group)))
}

/// What the limit of the control group leaves; its page cache can be reclaimed.
fn of_group() -> Option<u64> {
    let number = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let cache = std::fs::read_to_string("/sys/fs/cgroup/memory.stat").ok();
    let cache = cache.as_deref().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
        line.parse::<u64>().ok()
    });
    let used = number("memory.current")?.saturating_sub(cache.unwrap_or(0));
    Some(number("memory.max")?.saturating_sub(used))
}

/// Bytes of resident memory of a process, while there is one.
pub(super) fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kilobytes(&text, "VmRSS:")
}

/// A line `NAME N kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes that are free on a device, where that is known.
pub(super) fn free(device: &str) -> Option<u64> {
    if device == "cpu" {
        return available();
    }
    let said = nvidia_smi(device, "memory.free")?;
    said.parse::<u64>().ok().map(|mib| mib << 20)
}

/// What the driver says of a GPU.
pub(super) fn nvidia_smi(device: &str, what: &str) -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    command.arg(format!("--query-gpu={what}")).args(["--format=csv,noheader,nounits", "-i"]);
    let output = command.arg(visible(device)?).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned()).filter(|said| !said.is_empty())
}

/// The driver's name of a device, which CUDA_VISIBLE_DEVICES may have renumbered.
pub(super) fn visible(device: &str) -> Option<String> {
    let ordinal = device.strip_prefix("cuda")?.trim_start_matches(':');
    let ordinal = if ordinal.is_empty() { "0" } else { ordinal };
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(list) => {
            // What follows a name that is none is not visible either.
            let is_name = |name: &&str| !name.is_empty() && !name.starts_with('-');
            let mut names = list.split(',').map(str::trim).take_while(is_name);
            names.nth(ordinal.parse().ok()?).map(str::to_owned)
        }
        Err(_) => Some(ordinal.to_owned()),
    }
}

/// What runs will take, as `softsae train --plan` predicts it; what does not change it is asked once.
pub(super) struct Forecast<'a> {
    job: &'a Job,
    known: BTreeMap<String, u64>,
    folder: TempDir,
}

impl<'a> Forecast<'a> {
    pub(super) fn new(job: &'a Job) -> Result<Self> {
        Ok(Self { job, known: BTreeMap::new(), folder: tempfile::tempdir()? })
    }

    /// Bytes that runs which train together will take on a device.
    pub(super) fn of(&mut self, runs: &[&PlannedRun], device: &str) -> Result<u64> {
        let (mut key, mut files) = (String::new(), Vec::new());
        for (i, run) in runs.iter().enumerate() {
            let mut config = self.job.activations.provided(&run.point.config)?;
            config.training.device = device.into();
            let mut shape = config.clone();
            (shape.training.seed, shape.training.lr, shape.training.log_every) = (0, None, 1);
            key += &toml::to_string(&shape)?;
            let file = self.folder.path().join(format!("run-{i}.toml"));
            files.push((file, config));
        }
        let bytes = match self.known.get(&key) {
            Some(bytes) => *bytes,
            None => {
                files.iter().try_for_each(|(file, config)| write_toml(file, config))?;
                let files: Vec<&Path> = files.iter().map(|(file, _)| file.as_path()).collect();
                let run = runs.first().map(|run| format!("run {} ({})", run.id, run.point));
                let bytes = predicted(self.job, &files).with_context(|| run.unwrap_or_default())?;
                self.known.insert(key, bytes);
                bytes
            }
        };
        Ok(bytes + BESIDE)
    }
}

/// What the program predicts for run files.
fn predicted(job: &Job, files: &[&Path]) -> Result<u64> {
    let mut command = job.program();
    let output = command.arg("train").args(files).arg("--plan").output();
    let output = output.with_context(|| format!("cannot start `{}`", child::line(&command)))?;
    // A run that does not fit is refused after its plan.
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(bytes) = total(&said) {
        return Ok(bytes);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("error: ").to_owned();
    match output.status.code() {
        Some(2) => bail!(usage(said)),
        _ => bail!("planning failed ({}): {said}", output.status),
    }
}

/// The line `total N MB` of a plan.
fn total(plan: &str) -> Option<u64> {
    let line = plan.lines().find_map(|line| line.strip_prefix("total "))?;
    line.trim().strip_suffix(" MB")?.parse::<u64>().ok().map(|mega| mega * 1_000_000)
}

/// Whether a run may start beside those at work, each with what it will take and what it holds.
///
/// A run that is alone may always start: it refuses by itself what cannot be.
pub(super) fn fits(need: u64, at_work: &[(u64, u64)], available: Option<u64>) -> bool {
    let to_come: u64 = at_work.iter().map(|(need, holds)| need.saturating_sub(*holds)).sum();
    at_work.is_empty() || available.is_none_or(|available| need + to_come <= available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_there_is_and_what_is_held() {
        let available = available().unwrap();
        let holds = resident(std::process::id()).unwrap();
        assert!(available > 1 << 20 && holds > 1 << 18, "{available} {holds}");
        assert_eq!(resident(u32::MAX), None);
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kilobytes("VmRSS:\t  12 MB\n", "VmRSS:"), None);
    }

    #[test]
    fn a_plan_is_read_by_its_total() {
        let plan = "engine       fast\nparameters          12 MB\ntotal              345 MB\n";
        assert_eq!(total(plan), Some(345_000_000));
        assert_eq!(total("error: no such store\n"), None);
    }

    #[test]
    fn a_run_starts_only_beside_what_leaves_room_for_it() {
        // What runs hold already is no more among what is available.
        assert!(fits(40, &[(50, 50)], Some(40)));
        assert!(!fits(40, &[(50, 10)], Some(79)));
        assert!(fits(40, &[(50, 10)], Some(80)));
        assert!(!fits(40, &[(50, 60), (30, 0)], Some(69)));
        assert!(fits(40, &[], Some(1)) && fits(40, &[(50, 0)], None));
    }
}

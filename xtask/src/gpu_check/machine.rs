//! The machine that a check runs on.

use std::process::{Command, Stdio};

/// What is known of the card, its driver, the processor and PyTorch: names and values.
pub(super) fn describe() -> Vec<(String, String)> {
    let query = "--query-gpu=name,driver_version,memory.total,compute_cap";
    let card = output("nvidia-smi", &[query, "--format=csv,noheader"]);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = "import importlib.metadata as m; print(m.version('torch'))";
    let unknown = || "unknown".to_owned();
    [
        ("gpu", card.unwrap_or_else(|| "none: no nvidia-smi".to_owned())),
        ("cpu", cpu.map_or_else(unknown, |(_, name)| format!("{name}, {cores} cores"))),
        ("torch", output(&python, &["-c", script]).unwrap_or_else(unknown)),
        ("softsae", env!("CARGO_PKG_VERSION").to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

/// What a program prints, lines joined, if it succeeds.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
    (output.status.success() && !text.is_empty()).then_some(text)
}

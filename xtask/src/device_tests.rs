//! `device-tests`: the tests that compute on a device, each in a process of its own.
//!
//! A process that CUDA has failed in cannot go on, and a test that hangs must not hold up the rest.

mod one;
mod suites;

use std::collections::VecDeque;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::exit::{note, usage};
use crate::setup;
use crate::workspace::Workspace;
use one::{Test, Verdict};
pub(crate) use suites::{build, golden};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask device-tests
  softsae-torch-2.11/run device-tests --device cuda:0
  softsae-torch-2.11/run device-tests --device cuda:0 --filter golden:: --jobs 1")]
pub(crate) struct DeviceTestsArgs {
    /// The device under test: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Only tests whose package and name hold this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Print the names of the tests and stop
    #[arg(long)]
    list: bool,
    /// Tests at once; default: one for two cores, at most 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Seconds after which a test has failed
    #[arg(long, value_name = "N", default_value_t = 300)]
    timeout: u64,
    /// Write the results to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The file of results.
#[derive(Debug, Serialize)]
struct Report<'a> {
    device: &'a str,
    seconds: f64,
    passed: usize,
    skipped: usize,
    failed: usize,
    tests: Vec<Line>,
}

/// One test in it.
#[derive(Debug, Serialize)]
struct Line {
    package: String,
    name: String,
    #[serde(flatten)]
    verdict: Verdict,
    seconds: f64,
}

pub(crate) fn run(workspace: &Workspace, args: &DeviceTestsArgs) -> Result<()> {
    setup::ensure(workspace)?;
    // The folder is there until all tests have ended.
    let (mut tests, _folder) = suites::tests(workspace)?;
    if let Some(filter) = &args.filter {
        tests.retain(|test| test.title().contains(filter.as_str()));
    }
    if tests.is_empty() {
        let filter = args.filter.as_deref().unwrap_or_default();
        bail!(usage(format!("--filter: expected a part of a test's name, got `{filter}`")));
    }
    if args.list {
        for test in &tests {
            say!("{}", test.title());
        }
        return Ok(());
    }
    let (start, n_tests) = (Instant::now(), tests.len());
    note(&format!("{n_tests} tests on {}", args.device));
    let lines = run_all(args, tests)?;
    let count = |word: &str| lines.iter().filter(|line| line.verdict.word() == word).count();
    let report = Report {
        device: &args.device,
        seconds: start.elapsed().as_secs_f64(),
        passed: count("pass"),
        skipped: count("skip"),
        failed: count("FAIL"),
        tests: lines,
    };
    let Report { passed, skipped, failed, seconds, .. } = report;
    say!(
        "{passed} passed, {skipped} skipped, {failed} failed on {} in {seconds:.0} s",
        args.device
    );
    if let Some(path) = &args.json {
        sae_config::write_json(path, &report)?;
    }
    match failed {
        0 => Ok(()),
        n => bail!("{n} of {n_tests} tests failed on {}", args.device),
    }
}

/// Runs tests on as many threads as jobs are wanted, and prints each result when it is there.
fn run_all(args: &DeviceTestsArgs, tests: Vec<Test>) -> Result<Vec<Line>> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let jobs = args.jobs.map_or((cores / 2).clamp(1, 8), usize::from);
    let timeout = Duration::from_secs(args.timeout);
    let queue = Mutex::new(VecDeque::from(tests));
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (queue, sender) = (&queue, sender.clone());
            scope.spawn(move || {
                let next = || queue.lock().ok()?.pop_front();
                while let Some(test) = next() {
                    let start = Instant::now();
                    let verdict = test.run(&args.device, timeout);
                    if sender.send((test, verdict, start.elapsed())).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut lines = Vec::new();
        for (test, verdict, took) in results {
            let verdict = verdict.with_context(|| test.title())?;
            if let Verdict::Fail { why, output } = &verdict {
                if let Some(reason) = no_device(output) {
                    bail!(usage(format!("--device: {reason}")));
                }
                say!("FAIL  {}: {why}\n{}", test.title(), indented(output));
            } else {
                let seconds = took.as_secs_f64();
                say!("{}  {}{} ({seconds:.1} s)", verdict.word(), test.title(), verdict.note());
            }
            let Test { package, name, .. } = test;
            lines.push(Line { package, name, verdict, seconds: took.as_secs_f64() });
        }
        Ok(lines)
    })
}

/// Why there is no such device, if that made a test fail: it does the same to all.
fn no_device(output: &str) -> Option<&str> {
    output.lines().find_map(|line| line.split_once("SOFTSAE_TEST_DEVICE: ")).map(|(_, why)| why)
}

fn indented(output: &str) -> String {
    output.lines().map(|line| format!("      {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_told_from_a_failed_test() {
        let output = "running 1 test\n\nthread 'a' panicked at testing.rs:15:\n\
                      SOFTSAE_TEST_DEVICE: CUDA finds no device: no NVIDIA driver is loaded\n";
        let reason = "CUDA finds no device: no NVIDIA driver is loaded";
        assert_eq!(no_device(output), Some(reason));
        assert_eq!(no_device("thread 'a' panicked: left != right"), None);
    }
}

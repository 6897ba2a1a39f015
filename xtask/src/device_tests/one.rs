//! One test in a process of its own.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// A test of a test program.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) package: String,
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// Its folder of golden numbers, if that is not beside the sources.
    pub(super) golden: Option<PathBuf>,
}

/// How a test ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "result")]
pub(super) enum Verdict {
    Pass,
    /// The test says that it does not apply to the device.
    Skip {
        why: String,
    },
    Fail {
        why: String,
        output: String,
    },
}

impl Verdict {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skip { .. } => "skip",
            Self::Fail { .. } => "FAIL",
        }
    }

    /// What follows the name of the test.
    pub(super) fn note(&self) -> String {
        match self {
            Self::Pass => String::new(),
            Self::Skip { why } | Self::Fail { why, .. } => format!(": {why}"),
        }
    }
}

/// What a test prints that does not apply to the device.
const SKIPPED: &str = "skipped: ";

/// Bytes kept of what a failed test printed.
const KEPT: usize = 4000;

impl Test {
    /// Package and name.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.package, self.name)
    }

    /// Runs it to its end or to the timeout.
    pub(super) fn run(&self, device: &str, timeout: Duration) -> Result<Verdict> {
        let output = tempfile::NamedTempFile::new().context("a file for the output of tests")?;
        let mut command = Command::new(&self.program);
        command.args(["--exact", &self.name, "--nocapture", "--test-threads=1"]);
        command.env("SOFTSAE_TEST_DEVICE", device).env_remove("SOFTSAE_GOLDEN");
        if let Some(golden) = &self.golden {
            command.env("SOFTSAE_GOLDEN", golden);
        }
        command.stdin(Stdio::null()).stdout(output.reopen()?).stderr(output.reopen()?);
        let mut child = command.spawn().with_context(|| self.program.display().to_string())?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if start.elapsed() > timeout {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let output = std::fs::read(output.path())?;
        Ok(verdict(status, &String::from_utf8_lossy(&output), timeout))
    }
}

/// The verdict on an exit status, or on none before the timeout, and on what was printed.
fn verdict(status: Option<ExitStatus>, output: &str, timeout: Duration) -> Verdict {
    let why = match status {
        None => format!("no end after {} s", timeout.as_secs()),
        Some(status) if !status.success() => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
        },
        Some(_) if !output.contains("1 passed") => "the program has no such test".to_owned(),
        Some(_) => {
            let skipped = output.lines().find_map(|line| line.split_once(SKIPPED));
            return match skipped {
                Some((_, why)) => Verdict::Skip { why: why.to_owned() },
                None => Verdict::Pass,
            };
        }
    };
    let mut from = output.len().saturating_sub(KEPT);
    while !output.is_char_boundary(from) {
        from += 1;
    }
    Verdict::Fail { why, output: output[from..].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test whose program is a shell script.
    fn run(script: &str, timeout: Duration) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let program = crate::pip::tests::fake_python(folder.path(), script);
        let golden = Some(folder.path().join("golden"));
        let test = Test { package: "p".into(), name: "a::b".into(), program, golden };
        test.run("cuda:3", timeout).unwrap()
    }

    #[test]
    fn every_end_of_a_test_has_its_verdict() {
        let long = Duration::from_secs(60);
        let good = "echo \"$SOFTSAE_TEST_DEVICE $*\" >&2; echo 'test result: ok. 1 passed'";
        assert!(matches!(run(good, long), Verdict::Pass));
        let Verdict::Skip { why } =
            run("echo 'test a ... skipped: on the CPU'; echo '1 passed'", long)
        else {
            panic!("expected to be skipped")
        };
        assert_eq!(why, "on the CPU");
        for (script, timeout, reason) in [
            ("echo 'a is not b' >&2; exit 101", long, "exit code 101"),
            ("kill -ABRT $$", long, "killed by signal 6"),
            ("echo '0 passed'", long, "the program has no such test"),
            ("exec sleep 60", Duration::ZERO, "no end after 0 s"),
        ] {
            let verdict = run(script, timeout);
            let Verdict::Fail { why, output } = &verdict else { panic!("expected a failure") };
            assert_eq!(why, reason);
            assert_eq!(output.contains("a is not b"), script.contains("is not"));
            assert_eq!(verdict.word(), "FAIL");
        }
    }

    #[test]
    fn the_test_is_given_its_device_its_golden_numbers_and_its_name() {
        let script = "echo \"$SOFTSAE_TEST_DEVICE ${SOFTSAE_GOLDEN##*/} $2\"; exit 1";
        let Verdict::Fail { output, .. } = run(script, Duration::from_secs(60)) else {
            panic!("expected a failure")
        };
        assert_eq!(output.trim(), "cuda:3 golden a::b");
    }
}

//! A child process that writes a log, can be asked to stop, and is never run twice at once.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::memory;
use super::stop;
use crate::exit::Interrupted;

/// Time between two looks at a child.
const POLL: Duration = Duration::from_millis(100);

/// Time a child has to save its work after it is asked to stop.
const GRACE: Duration = Duration::from_secs(60);

/// What a run may take.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Time of an attempt.
    pub(super) time: Option<Duration>,
    /// Resident memory of a process, in bytes.
    pub(super) memory: Option<u64>,
}

/// What one process may take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    /// When it has to be over.
    pub(super) deadline: Option<Instant>,
    /// Resident memory, in bytes.
    pub(super) memory: Option<u64>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, or by a signal from elsewhere.
    Exited(ExitStatus),
    /// It was asked to stop, since its time was over.
    OutOfTime,
    /// It was killed, since it held so many bytes.
    OverMemory(u64),
}

/// A log file that only one family of processes holds.
///
/// The lock belongs to the open file, which children inherit as their standard
/// output: a child that outlives this process keeps it.
pub(super) struct Log {
    file: File,
}

impl Log {
    /// Opens the log for appending; waits while a process of an earlier sweep still writes to it.
    pub(super) fn open(path: &Path, mut waiting: impl FnMut()) -> Result<Self> {
        let mut options = File::options();
        let file = options.create(true).append(true).open(path);
        let file = file.with_context(|| path.display().to_string())?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::WouldBlock) if stop::requested() => bail!(Interrupted),
                Err(TryLockError::WouldBlock) => waiting(),
                Err(TryLockError::Error(e)) => {
                    return Err(e).with_context(|| format!("locking {}", path.display()));
                }
            }
            std::thread::sleep(POLL);
        }
    }

    /// Runs a command to its end, its output in the log; `tick` is called all the while.
    pub(super) fn run(&self, command: &mut Command, mut tick: impl FnMut()) -> Result<ExitStatus> {
        match self.run_within(command, Bounds::default(), |_| tick())? {
            Ending::Exited(status) => Ok(status),
            ending => bail!("{ending:?} without a limit"),
        }
    }

    /// Runs a command to its end or to its bounds; `tick` gets its resident memory all the while.
    pub(super) fn run_within(
        &self,
        command: &mut Command,
        bounds: Bounds,
        mut tick: impl FnMut(u64),
    ) -> Result<Ending> {
        if stop::requested() {
            bail!(Interrupted);
        }
        self.say(&format!("$ {}", line(command)))?;
        // A group of its own: Ctrl-C at the terminal reaches this process alone, which passes it on.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(self.file.try_clone()?).stderr(self.file.try_clone()?);
        let mut child =
            command.spawn().with_context(|| format!("cannot start `{}`", line(command)))?;
        // Only the child is to hold the log from here on.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Ending::Exited(status));
            }
            if stop::requested() {
                end(&mut child)?;
                bail!(Interrupted);
            }
            if bounds.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                end(&mut child)?;
                return Ok(Ending::OutOfTime);
            }
            let resident = memory::resident(child.id()).unwrap_or(0);
            if bounds.memory.is_some_and(|limit| resident > limit) {
                child.kill()?;
                child.wait()?;
                return Ok(Ending::OverMemory(resident));
            }
            tick(resident);
            std::thread::sleep(POLL);
        }
    }

    /// Writes a line of our own.
    pub(super) fn say(&self, line: &str) -> Result<()> {
        Ok(writeln!(&self.file, "{line}")?)
    }
}

/// Asks a child to stop, and kills it if it does not.
fn end(child: &mut Child) -> Result<()> {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Not the interrupt of a terminal, which what a script starts in the background ignores. An
        // error means that it has just ended.
        let _ = kill_process(pid, Signal::TERM);
    }
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if stop::urgent() || start.elapsed() > GRACE {
            child.kill()?;
            child.wait()?;
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// A command as one would type it.
pub(super) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| match word.to_string_lossy() {
        plain if plain.chars().all(|c| c.is_alphanumeric() || "/._-=:,".contains(c)) => {
            plain.into()
        }
        other => format!("'{}'", other.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The last lines of a text file; empty if it cannot be read.
pub(super) fn tail(path: &Path, n_lines: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(n_lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_goes_to_the_log_and_the_lock_goes_with_the_child() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        let log = Log::open(&path, || panic!("nobody holds it")).unwrap();
        let mut command = Command::new("sh");
        let status =
            log.run(command.args(["-c", "echo out; echo err >&2; exit 3"]), || ()).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(tail(&path, 2), "out\nerr");
        assert_eq!(tail(&path, 9).lines().next(), Some("$ sh -c 'echo out; echo err >&2; exit 3'"));
        assert_eq!(tail(&folder.path().join("none"), 9), "");

        // A process is ended at its bounds, which are told from an end of its own.
        let bounds = Bounds { deadline: Some(Instant::now() + POLL), memory: None };
        let sleep = || Command::new("sleep");
        let start = Instant::now();
        let mut in_background = Command::new("sh");
        in_background.args(["-c", "trap '' INT; exec sleep 600"]);
        let ending = log.run_within(&mut in_background, bounds, |_| ()).unwrap();
        assert_eq!(ending, Ending::OutOfTime);
        assert!(start.elapsed() < GRACE, "it ends when it is asked to");
        let bounds = Bounds { deadline: None, memory: Some(1) };
        let ending = log.run_within(sleep().arg("600"), bounds, |_| ()).unwrap();
        assert!(matches!(ending, Ending::OverMemory(bytes) if bytes > 1), "{ending:?}");

        // A child that outlives its parent holds the log until it ends.
        let start = Instant::now();
        log.run(Command::new("sh").args(["-c", "sleep 0.5 & exit 0"]), || ()).unwrap();
        drop(log);
        let mut n_waits = 0;
        Log::open(&path, || n_waits += 1).unwrap();
        assert!(n_waits > 0 && start.elapsed() >= Duration::from_millis(400));
    }
}

//! The parts of a check: each a process with a log, none of which stops the others.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::note;

/// The group of processes of the part that runs; 0 between two parts.
static GROUP: AtomicI32 = AtomicI32::new(0);

/// Ends the part that runs, and all that it has started, at Ctrl-C or termination.
pub(super) fn end_at_interrupt() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening for signals")?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            kill_part();
            std::process::exit(130);
        }
    });
    Ok(())
}

fn kill_part() {
    if let Some(group) = Pid::from_raw(GROUP.swap(0, Ordering::SeqCst)) {
        // An error means that it has just ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A part that was done or left out.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) name: String,
    /// `ok`, or what went wrong.
    pub(super) result: String,
    pub(super) seconds: f64,
}

impl Done {
    pub(super) fn is_ok(&self) -> bool {
        self.result == "ok"
    }
}

/// Runs parts one after the other until the time is up.
#[derive(Debug)]
pub(super) struct Steps {
    folder: PathBuf,
    end: Instant,
    done: Vec<Done>,
}

impl Steps {
    pub(super) fn new(folder: &Path, limit: Duration) -> Self {
        Self { folder: folder.to_owned(), end: Instant::now() + limit, done: Vec::new() }
    }

    /// The folder of logs and results.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a part and gives its exit code, if it came to one.
    pub(super) fn run(&mut self, name: &str, command: &mut Command) -> Result<Option<i32>> {
        let start = Instant::now();
        if start >= self.end {
            self.add(name, "left out: the time is up".to_owned(), start);
            return Ok(None);
        }
        note(&format!("==> {name}"));
        let path = self.log(name);
        let log = File::create(&path).with_context(|| path.display().to_string())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Killed together with what it starts.
        command.process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                self.add(name, format!("{}: {error}", command.get_program().display()), start);
                return Ok(None);
            }
        };
        GROUP.store(i32::try_from(child.id()).unwrap_or_default(), Ordering::SeqCst);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                GROUP.store(0, Ordering::SeqCst);
                break status;
            }
            if Instant::now() >= self.end {
                kill_part();
                child.wait()?;
                self.add(name, "stopped: the time is up".to_owned(), start);
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let result = if status.success() { "ok".to_owned() } else { format!("failed ({status})") };
        self.add(name, result, start);
        Ok(status.code())
    }

    /// Adds a part without a process.
    pub(super) fn add(&mut self, name: &str, result: String, start: Instant) {
        let seconds = start.elapsed().as_secs_f64();
        note(&format!("    {result} ({seconds:.0} s)"));
        self.done.push(Done { name: name.to_owned(), result, seconds });
    }

    /// The last line that a part has printed.
    pub(super) fn last_line(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        log.lines().last().unwrap_or("no output").to_owned()
    }

    pub(super) fn into_done(self) -> Vec<Done> {
        self.done
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// The part at work is one for the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_part_that_fails_stops_no_other() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut steps = Steps::new(folder.path(), Duration::from_secs(60));
        assert_eq!(steps.run("a", &mut sh("echo one; echo two >&2; exit 2")).unwrap(), Some(2));
        assert_eq!(steps.run("b", &mut Command::new("/no/such/program")).unwrap(), None);
        assert_eq!(steps.run("c", &mut sh("exit 0")).unwrap(), Some(0));
        assert_eq!(steps.last_line("a"), "two");
        let done = steps.into_done();
        assert_eq!(done.iter().map(Done::is_ok).collect::<Vec<_>>(), [false, false, true]);
        assert!(done[0].result.contains("exit status: 2"), "{done:?}");
        assert!(done[1].result.contains("/no/such/program"), "{done:?}");
    }

    #[test]
    fn what_is_left_when_the_time_is_up_is_left_out() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut steps = Steps::new(folder.path(), Duration::from_millis(200));
        let mark = folder.path().join("late").display().to_string();
        let child = format!("(sleep 600; touch {mark}) & wait");
        assert_eq!(steps.run("long", &mut sh(&child)).unwrap(), None);
        assert_eq!(steps.run("next", &mut sh("exit 0")).unwrap(), None);
        let done = steps.into_done();
        assert!(done[0].result.starts_with("stopped") && done[1].result.starts_with("left out"));
        // What a part has started is stopped with it.
        let is_alive = || {
            std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
                let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&mark)
            })
        };
        let start = Instant::now();
        while is_alive() {
            assert!(start.elapsed() < Duration::from_secs(60), "still there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

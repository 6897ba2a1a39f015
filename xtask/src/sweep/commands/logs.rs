//! `sweep logs`: what a run has printed, and prints.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::super::state;
use super::opened::{Sweep, folder};
use crate::exit::{note, usage};
use crate::workspace::Workspace;

/// Time between two looks at a log that is followed.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(in crate::sweep) struct LogsArgs {
    /// The folder of a sweep, or the name of one in runs/
    dir: PathBuf,
    /// A run: its number in `sweep status`, its id, or the first characters of it
    #[arg(value_name = "RUN")]
    run: String,
    /// Go on until the run has ended
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(workspace: &Workspace, args: &LogsArgs) -> Result<()> {
    let sweep = Sweep::open(workspace, &args.dir)?;
    let id = sweep.find(&args.run)?;
    let folder = folder(&sweep, &id);
    let log = folder.join("log.txt");
    if !log.exists() {
        if !args.follow {
            bail!(usage(format!("run {id} has no log: it has not been started")));
        }
        note(&format!("run {id} has not been started; waiting for it"));
        while !log.exists() {
            std::thread::sleep(LOOK);
        }
    }
    let is_over = || !args.follow || !state::is_held(&folder);
    match show(&log, &mut std::io::stdout().lock(), is_over) {
        // Who reads no further has seen enough.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.with_context(|| log.display().to_string()),
    }
}

/// Copies a log, and what is added to it until it is over.
fn show(path: &Path, to: &mut impl Write, is_over: impl Fn() -> bool) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let (mut at, mut n_idle) = (0, 0);
    loop {
        // Asked before the file is read: what is written last is not missed.
        let over = is_over();
        if file.metadata()?.len() < at {
            at = 0;
        }
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        at += file.read_to_end(&mut bytes)? as u64;
        to.write_all(&bytes)?;
        to.flush()?;
        // Between its processes nobody holds a run for a moment.
        n_idle = if over && bytes.is_empty() { n_idle + 1 } else { 0 };
        if n_idle > 1 {
            return Ok(());
        }
        std::thread::sleep(if over && n_idle == 0 { Duration::ZERO } else { LOOK });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_added_is_shown_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        std::fs::write(&path, "one\n").unwrap();
        let looks = Cell::new(0);
        let is_over = || {
            looks.set(looks.get() + 1);
            if looks.get() == 2 {
                File::options().append(true).open(&path).unwrap().write_all(b"two\n").unwrap();
            }
            looks.get() > 2
        };
        let mut shown = Vec::new();
        show(&path, &mut shown, is_over).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_log_that_nobody_writes_is_shown_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        let text = "line\n".repeat(10_000);
        std::fs::write(&path, &text).unwrap();
        let mut shown = Vec::new();
        show(&path, &mut shown, || true).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), text);
    }
}

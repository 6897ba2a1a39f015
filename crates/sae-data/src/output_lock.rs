//! The right to write in one place, held by one process at a time.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The name of the file that is locked in a directory.
const NAME_IN_DIRECTORY: &str = ".writer.lock";

/// Held while a process writes in a directory, or a file; every other process is refused.
///
/// The system gives it up when the process dies, however it dies.
#[derive(Debug)]
pub struct OutputLock {
    /// A hidden file, removed at the end.
    path: PathBuf,
    _file: File,
}

impl OutputLock {
    /// Locks a directory, which is created if it is not there.
    ///
    /// # Errors
    /// [`Error::Locked`] where another process holds the lock; a directory that cannot be written.
    pub fn directory(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        Self::acquire(path, path.join(NAME_IN_DIRECTORY))
    }

    /// Locks the file that will be written to `path`.
    ///
    /// # Errors
    /// As [`OutputLock::directory`], of the file's directory.
    pub fn file(path: &Path) -> Result<Self> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".lock");
        Self::acquire(path, path.with_file_name(name))
    }

    fn acquire(locked: &Path, path: PathBuf) -> Result<Self> {
        loop {
            let file = File::create(&path).map_err(Error::io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked { path: locked.to_owned() });
                }
                Err(TryLockError::Error(e)) => return Err(Error::io(&path)(e)),
            }
            // The one that held it before may have removed the file since it was opened here.
            let ours = file.metadata().map_err(Error::io(&path))?.ino();
            if std::fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for OutputLock {
    fn drop(&mut self) {
        // Removed while it is still held; one that stays behind is locked anew by the next process.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::OutputLock;
    use crate::Error;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("a/b"), dir.path().join("x.json"));
        for take in [
            &(|| OutputLock::directory(&folder)) as &dyn Fn() -> crate::Result<OutputLock>,
            &|| OutputLock::file(&file),
        ] {
            let held = take().unwrap();
            let refused = take().unwrap_err();
            assert!(matches!(&refused, Error::Locked { .. }), "{refused}");
            drop(held);
            take().unwrap();
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
        assert!(!dir.path().join(".x.json.lock").exists());
    }

    /// Many threads that take turns: never two inside, and each gets its turn.
    #[test]
    fn removal_lets_no_second_one_in() {
        let dir = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut turns = 0;
                    while turns < 200 {
                        let Ok(held) = OutputLock::directory(dir.path()) else { continue };
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(held);
                        turns += 1;
                    }
                });
            }
        });
    }
}

//! A sweep's own copies of the programs that it started with: what is built meanwhile does not
//! change what its queued runs do.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::wheel;

/// Folder of the copies in a sweep's folder.
const FOLDER: &str = "programs";

/// Copies a program into the sweep's folder, under the hash of its content, and gives the copy.
pub(super) fn keep(out: &Path, program: &Path) -> Result<PathBuf> {
    let hash = wheel::hash(program)?;
    let folder = out.join(FOLDER).join(&hash[..16]);
    let place = folder.join(program.file_name().context("a program has a name")?);
    if place.exists() {
        return Ok(place);
    }
    let copy = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        let temporary = tempfile::NamedTempFile::new_in(&folder)?.into_temp_path();
        fs::copy(program, &temporary)?;
        File::open(&temporary)?.sync_all()?;
        temporary.persist(&place)?;
        File::open(&folder)?.sync_all()
    };
    copy().map_err(|e| wheel::explain(e, &place))?;
    Ok(place)
}

/// Removes the copies but for those in use.
pub(super) fn drop_others(out: &Path, in_use: &[PathBuf]) -> Result<()> {
    let root = out.join(FOLDER);
    let entries = match fs::read_dir(&root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| root.display().to_string())?,
    };
    for entry in entries {
        let folder = entry?.path();
        if !in_use.iter().any(|program| program.starts_with(&folder)) {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
    }
    if in_use.is_empty() {
        fs::remove_dir(&root).with_context(|| root.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn build(path: &Path, says: &str) {
        fs::write(path, format!("#!/bin/sh\necho {says}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_copy_outlives_a_new_build_and_goes_when_it_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (out, program) = (folder.path().join("out"), folder.path().join("softsae"));
        build(&program, "first");
        let first = keep(&out, &program).unwrap();
        assert_eq!(keep(&out, &program).unwrap(), first);
        build(&program, "second");
        let second = keep(&out, &program).unwrap();
        for (copy, says) in [(&first, "first\n"), (&second, "second\n")] {
            let output = Command::new(copy).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), says);
        }
        drop_others(&out, std::slice::from_ref(&second)).unwrap();
        assert!(!first.exists() && second.exists());
        drop_others(&out, &[]).unwrap();
        assert!(!out.join(FOLDER).exists());
        drop_others(&out, &[]).unwrap();
    }
}

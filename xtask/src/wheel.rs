//! Wheels are zip archives: their hash, and single files out of them.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn hash(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).with_context(|| path.display().to_string())?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Checks that a file has this SHA-256.
pub(crate) fn check_hash(path: &Path, expected: &str) -> Result<()> {
    let got = hash(path)?;
    if got != expected {
        bail!("{}: expected sha256 {expected}, got {got}", path.display());
    }
    Ok(())
}

/// Unpacks the files that `place` gives a path in `folder`, and counts them.
pub(crate) fn unpack(
    wheel: &Path,
    folder: &Path,
    place: impl Fn(&str) -> Option<String>,
) -> Result<usize> {
    let open = || -> Result<_> { Ok(ZipArchive::new(File::open(wheel)?)?) };
    let mut archive = open().with_context(|| wheel.display().to_string())?;
    let mut n_files = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).with_context(|| wheel.display().to_string())?;
        // A name that would lead out of the folder is none of ours.
        let Some(path) = entry
            .enclosed_name()
            .filter(|_| entry.is_file())
            .and_then(|name| Some(folder.join(place(name.to_str()?)?)))
        else {
            continue;
        };
        let mut write = || -> io::Result<()> {
            std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
            io::copy(&mut entry, &mut File::create(&path)?)?;
            Ok(())
        };
        write().map_err(|e| explain(e, &path))?;
        n_files += 1;
    }
    Ok(n_files)
}

/// An error of writing `path`, with what to do about it.
pub(crate) fn explain(error: io::Error, path: &Path) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space and try again",
        io::ErrorKind::PermissionDenied => "; check the rights of the folder",
        _ => "",
    };
    anyhow::anyhow!("{}: {error}{remedy}", path.display())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    #[test]
    fn unpacks_what_has_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a.whl");
        let mut zip = ZipWriter::new(File::create(&wheel).unwrap());
        for name in ["p/lib/x.so", "p/other", "../p/lib/escape"] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(name.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let out = folder.path().join("out");
        let place = |name: &str| name.strip_prefix("p/lib/").map(|rest| format!("lib/{rest}"));
        assert_eq!(unpack(&wheel, &out, place).unwrap(), 1);
        assert_eq!(std::fs::read_to_string(out.join("lib/x.so")).unwrap(), "p/lib/x.so");
        let sha = hash(&wheel).unwrap();
        check_hash(&wheel, &sha).unwrap();
        File::options().append(true).open(&wheel).unwrap().write_all(b"x").unwrap();
        assert!(check_hash(&wheel, &sha).is_err());
    }

    #[test]
    fn a_damaged_wheel_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a.whl");
        std::fs::write(&wheel, "not a zip").unwrap();
        let error = unpack(&wheel, folder.path(), |name| Some(name.into())).unwrap_err();
        assert!(format!("{error:#}").contains("a.whl"));
    }

    #[test]
    fn a_full_disk_names_the_remedy() {
        let error = explain(io::ErrorKind::StorageFull.into(), Path::new("target/x"));
        assert!(error.to_string().starts_with("target/x: "));
        assert!(error.to_string().ends_with("free space and try again"));
    }
}

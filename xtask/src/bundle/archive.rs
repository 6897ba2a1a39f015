//! Parts of a bundle that are used now and then lie in it as archives, at a third of their size.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::wheel::explain;

/// Packs the files of a folder into an archive.
pub(crate) fn pack(folder: &Path, archive: &Path) -> Result<()> {
    let file = File::create(archive).map_err(|e| explain(e, archive))?;
    let mut zip = ZipWriter::new(file);
    add(&mut zip, folder, "")?;
    zip.finish().with_context(|| archive.display().to_string())?;
    Ok(())
}

/// Adds the files of a folder under names that begin with `prefix`.
fn add(zip: &mut ZipWriter<File>, folder: &Path, prefix: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = std::fs::read_dir(folder).map_err(|e| explain(e, folder))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = format!("{prefix}{}", name.with_context(|| path.display().to_string())?);
        if path.is_dir() {
            add(zip, &path, &format!("{name}/"))?;
            continue;
        }
        let mut file = File::open(&path).map_err(|e| explain(e, &path))?;
        let mode = file.metadata()?.permissions().mode();
        zip.start_file(name, SimpleFileOptions::default().unix_permissions(mode))?;
        io::copy(&mut file, zip).map_err(|e| explain(e, &path))?;
    }
    Ok(())
}

/// Unpacks an archive into a temporary folder that goes with the value.
pub(crate) fn unpack(archive: &Path) -> Result<TempDir> {
    let folder = tempfile::tempdir().context("a temporary folder; TMPDIR names another place")?;
    let open = || -> Result<()> {
        ZipArchive::new(File::open(archive)?)?.extract(folder.path())?;
        Ok(())
    };
    open().with_context(|| {
        format!("unpacking {} into {}", archive.display(), folder.path().display())
    })?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_come_back_with_their_content_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir_all(source.join("a/b")).unwrap();
        std::fs::write(source.join("a/b/data"), "é").unwrap();
        std::fs::write(source.join("a/program"), "#!/bin/sh\nexit 3\n").unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(source.join("a/program"), mode).unwrap();
        let archive = folder.path().join("x.zip");
        pack(&source, &archive).unwrap();
        let out = unpack(&archive).unwrap();
        assert_eq!(std::fs::read_to_string(out.path().join("a/b/data")).unwrap(), "é");
        let mode = out.path().join("a/program").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        std::fs::write(&archive, "no archive").unwrap();
        assert!(format!("{:#}", unpack(&archive).unwrap_err()).contains("x.zip"));
    }
}

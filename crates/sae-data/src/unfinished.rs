//! What killed writes leave.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// Removes what killed writes of the files that `is_one` names have left in their folder: `.NAME.`
/// and six letters or digits, as `atomic-write-file` names them. Nothing else may be writing them.
///
/// # Errors
/// A folder that cannot be read, or a file that cannot be removed.
pub fn remove_unfinished(folder: &Path, is_one: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let parts = name.and_then(|name| name.strip_prefix('.')?.rsplit_once('.'));
        let is_left = parts.is_some_and(|(name, end)| {
            is_one(name) && end.len() == 6 && end.chars().all(|c| c.is_ascii_alphanumeric())
        });
        if is_left {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_killed_write_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let kept =
            [".run.toml", ".run.toml.abc", ".run.toml.a-c4e6", ".run.tom.aB3dE6", "run.toml"];
        for name in kept.iter().chain(&[".run.toml.NF86hW", ".run.toml.000000"]) {
            fs::write(folder.path().join(name), name).unwrap();
        }
        remove_unfinished(folder.path(), |name| name == "run.toml").unwrap();
        let left = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name());
        let mut left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort();
        let mut kept = kept.map(String::from);
        kept.sort();
        assert_eq!(left, kept);
    }
}

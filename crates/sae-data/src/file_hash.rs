//! The hash of a file, kept with what tells its states apart.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::source::SourceFile;
use crate::{Error, Result, sidecar};

/// A file's hash and the state of the file that it belongs to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownHash {
    stamp: String,
    blake3: String,
}

/// BLAKE3 of a file, in hexadecimal, kept in the folder `kept`: the file is read again where its
/// length, inode, time of modification or time of change is another. Without the folder, which is
/// made where that is possible, it is read each time.
///
/// # Errors
/// A file that cannot be read, or that changes meanwhile.
pub fn file_hash(path: &Path, kept: &Path) -> Result<String> {
    let place = path.canonicalize().map_err(Error::io(path))?;
    let name = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
    let file = SourceFile::open(path)?;
    // A hash that cannot be kept is computed again.
    let _ = std::fs::create_dir_all(kept);
    kept_blake3(&file, &kept.join(format!("{}.json", &name[..32])))
}

/// BLAKE3 of a file, from `kept` where that is of the file as it is.
pub(crate) fn kept_blake3(file: &SourceFile, kept: &Path) -> Result<String> {
    let stamp = file.stamp()?;
    if let Some(known) = sidecar::read::<KnownHash>(kept).filter(|known| known.stamp == stamp) {
        return Ok(known.blake3);
    }
    let known = KnownHash { stamp, blake3: file.blake3()? };
    sidecar::write(kept, &known);
    Ok(known.blake3)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_hash_is_kept_until_the_file_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("a"), folder.path().join("kept"));
        fs::write(&file, "one").unwrap();
        let hash = || file_hash(&file, &kept).unwrap();
        let one = hash();
        assert_eq!(one, blake3::hash(b"one").to_hex().to_string());
        let place = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
        let text = fs::read_to_string(&place).unwrap();
        fs::write(&place, text.replace(&one, "kept")).unwrap();
        assert_eq!(hash(), "kept", "the file is not read again");

        // Another file of this length in its place, its time restored.
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        let other = folder.path().join("b");
        fs::write(&other, "two").unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(modified).unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(hash(), blake3::hash(b"two").to_hex().to_string());
        assert!(file_hash(&folder.path().join("none"), &kept).is_err());
        // Where nothing can be kept, nothing is.
        assert_eq!(file_hash(&file, &file).unwrap(), hash());
    }
}

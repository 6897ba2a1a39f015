//! A folder of what was measured before, each under what decides it.

use std::path::{Path, PathBuf};

use sae_config::{read_json, write_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::{Blame as _, Failure};
use crate::output::note;

/// The folder of `--floors`; without one nothing is kept.
pub(super) struct Kept(Option<PathBuf>);

/// What a file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Entry<K, V> {
    key: K,
    value: V,
}

impl Kept {
    pub(super) fn open(folder: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = folder.as_deref().filter(|path| path.exists() && !path.is_dir()) {
            let error = anyhow::anyhow!("--floors: expected a folder, got {}", path.display());
            return Err(Failure::usage(error));
        }
        Ok(Self(folder))
    }

    /// The folder, where there is one.
    pub(super) fn folder(&self) -> Option<&PathBuf> {
        self.0.as_ref()
    }

    /// What is kept under this key. What is kept under another in its place is no use, nor is a file
    /// that cannot be read, which is named.
    pub(super) fn read<K, V>(&self, name: &str, key: &K) -> Result<Option<V>, Failure>
    where
        K: Serialize + DeserializeOwned + PartialEq,
        V: DeserializeOwned,
    {
        let Some(path) = self.place(name, key)?.filter(|path| path.exists()) else {
            return Ok(None);
        };
        let entry: Entry<K, V> = match read_json(&path) {
            Ok(entry) => entry,
            Err(error) => {
                note!("--floors: measured anew: {error}");
                return Ok(None);
            }
        };
        Ok((entry.key == *key).then_some(entry.value))
    }

    /// Keeps a value under a key, and gives it back; says why where it cannot be kept, for which no
    /// evaluation is lost.
    pub(super) fn write<K: Serialize, V: Serialize>(
        &self,
        name: &str,
        key: K,
        value: V,
    ) -> Result<V, Failure> {
        let Some(path) = self.place(name, &key)? else { return Ok(value) };
        let entry = Entry { key, value };
        if let Err(error) = keep(&path, &entry) {
            note!("--floors: not kept: {}: {error}", path.display());
        }
        Ok(entry.value)
    }

    /// The file of a key.
    fn place<K: Serialize>(&self, name: &str, key: &K) -> Result<Option<PathBuf>, Failure> {
        let Some(folder) = &self.0 else { return Ok(None) };
        let hash = blake3::hash(&serde_json::to_vec(key).or_run()?).to_hex();
        Ok(Some(folder.join(format!("{name}-{}.json", &hash[..16]))))
    }
}

fn keep<K: Serialize, V: Serialize>(path: &Path, entry: &Entry<K, V>) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(write_json(path, entry)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_under_its_own_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(Some(folder.path().join("floors"))).unwrap();
        let read = |key: &str| kept.read::<String, Vec<f64>>("x", &key.to_owned()).unwrap();
        assert_eq!(read("a"), None);
        kept.write("x", "a".to_owned(), vec![0.1, 1.0 / 3.0]).unwrap();
        assert_eq!((read("a"), read("b")), (Some(vec![0.1, 1.0 / 3.0]), None));
        // A file of another key in its place, as where a hash is the same.
        let path = kept.place("x", &"b".to_owned()).unwrap().unwrap();
        std::fs::copy(kept.place("x", &"a".to_owned()).unwrap().unwrap(), path).unwrap();
        assert_eq!(read("b"), None);
        // One that is damaged is measured anew, and what cannot be kept is given back all the same.
        std::fs::write(kept.place("x", &"b".to_owned()).unwrap().unwrap(), "{").unwrap();
        assert_eq!(read("b"), None);
        kept.write("x", "b".to_owned(), vec![0.5]).unwrap();
        assert_eq!(read("b"), Some(vec![0.5]));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Kept(Some(file.join("floors"))).write("x", 1, 2.0).unwrap(), 2.0);
        let none = Kept::open(None).unwrap();
        assert_eq!(none.write("x", 1, 2.0).unwrap(), 2.0);
        assert_eq!(none.read::<u32, f64>("x", &1).unwrap(), None);
    }
}

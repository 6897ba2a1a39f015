//! The cache that the hub's clients share, and where it lies.

use std::env;
use std::path::{Path, PathBuf};

use crate::{Error, Kind, Reference, Result};

/// Where a repository's files lie: contents in `blobs`, named by what the hub calls them; the names
/// of a commit in `snapshots`, which lead to them; the commits of branches in `refs`.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(cache: &Path, kind: Kind, repository: &str) -> Self {
        let name = format!("{}--{}", kind.plural(), repository.replace('/', "--"));
        Self { path: cache.join(name) }
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.path.join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.path.join("blobs").join(etag)
    }

    /// The names of all files of a commit, which the other clients do not keep.
    pub(crate) fn listing(&self, commit: &str) -> PathBuf {
        self.path.join(".softsae").join(format!("{commit}.json"))
    }

    /// The commit that a revision was when it was last asked for.
    pub(crate) fn commit(&self, reference: &Reference) -> Result<Option<String>> {
        let path = self.path.join("refs").join(reference.revision());
        match std::fs::read_to_string(&path) {
            Ok(commit) => Ok(Some(commit.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Keeps the commit of a revision.
    pub(crate) fn set_commit(&self, reference: &Reference, commit: &str) -> Result<()> {
        write(&self.path.join("refs").join(reference.revision()), commit.as_bytes())
    }
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;

    create_parent(path)?;
    let mut file = atomic_write_file::AtomicWriteFile::open(path).map_err(Error::io(path))?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.commit().map_err(Error::io(path))
}

pub(crate) fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder).map_err(Error::io(folder))
}

/// Whether a revision is a commit by itself.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn home() -> PathBuf {
    let cache = || {
        let home = || env::home_dir().unwrap_or_default().join(".cache");
        variable("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
    };
    variable("HF_HOME").map_or_else(|| cache().join("huggingface"), PathBuf::from)
}

/// The folder of the cache.
pub(crate) fn from_env() -> PathBuf {
    let named = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE"));
    named.map_or_else(|| home().join("hub"), PathBuf::from)
}

/// The token that is sent.
pub(crate) fn token_from_env() -> Option<String> {
    if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    let file = || {
        let path = variable("HF_TOKEN_PATH").map_or_else(|| home().join("token"), PathBuf::from);
        std::fs::read_to_string(path).ok()
    };
    let token = variable("HF_TOKEN").or_else(file)?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Whether a switch is on.
pub(crate) fn is_set(name: &str) -> bool {
    variable(name)
        .is_some_and(|value| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

/// The address of the hub.
pub(crate) fn endpoint_from_env() -> Option<String> {
    variable("HF_ENDPOINT").map(|endpoint| endpoint.trim_end_matches('/').to_owned())
}

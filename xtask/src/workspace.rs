//! Where things lie in the workspace.

use std::path::{Path, PathBuf};

/// The workspace that this program belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace that cargo runs this program from, else the one it was built in.
    pub(crate) fn find() -> Self {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
        let package = manifest.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        Self { root: package.parent().expect("xtask lies in the workspace").to_owned() }
    }

    /// The root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for everything that is made, never committed.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// The bundled sweeps.
    pub(crate) fn sweeps(&self) -> PathBuf {
        self.root.join("xtask/sweeps")
    }
}

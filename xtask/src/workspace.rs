//! Where things lie in the workspace.

use std::path::{Path, PathBuf};

/// The workspace that this program belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    is_bundle: bool,
}

impl Workspace {
    /// The bundle that this program was started from; else the workspace that cargo runs it from;
    /// else the one it was built in.
    pub(crate) fn find() -> Self {
        if let Some(bundle) = std::env::var_os("SOFTSAE_BUNDLE") {
            return Self { root: bundle.into(), is_bundle: true };
        }
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
        let package = manifest.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        Self::at(package.parent().expect("xtask lies in the workspace"))
    }

    /// The workspace in a folder.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), is_bundle: false }
    }

    /// Whether this is a bundle of programs, without sources.
    pub(crate) fn is_bundle(&self) -> bool {
        self.is_bundle
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

//! A folder with libtorch in it: what must be there, and which version it is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Device, Release};

/// A folder that holds, or should hold, libtorch.
pub(super) struct Tree {
    root: PathBuf,
}

/// What compiling and linking needs; a CPU build holds no more libraries.
const NEEDED: [&str; 5] = [
    "include/ATen/ATen.h",
    "include/torch/csrc/api/include/torch/torch.h",
    "lib/libc10.so",
    "lib/libtorch_cpu.so",
    "lib/libtorch.so",
];

impl Tree {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn device(&self) -> Device {
        if self.root.join("lib/libtorch_cuda.so").exists() { Device::Cuda } else { Device::Cpu }
    }

    /// Checks that nothing is missing and that the version is a supported one.
    pub(super) fn check(&self) -> Result<&'static Release> {
        for name in NEEDED {
            let path = self.root.join(name);
            let size = path.metadata().with_context(|| path.display().to_string())?.len();
            if size == 0 {
                bail!("{}: expected a file with content, got an empty one", path.display());
            }
        }
        let version = self.version()?;
        let (root, known) = (self.root.display(), Release::versions());
        Release::find(&version)
            .with_context(|| format!("{root}: expected libtorch {known}, got {version}"))
    }

    /// One line on what it is.
    pub(super) fn describe(&self) -> Result<String> {
        let device = match self.device() {
            Device::Cpu => "CPU",
            Device::Cuda => "CPU and CUDA",
        };
        Ok(format!("libtorch {} ({device}) in {}", self.version()?, self.root.display()))
    }

    /// The version, from `version.py` of a wheel or `build-version` of an archive.
    pub(super) fn version(&self) -> Result<String> {
        if let Ok(version) = std::fs::read_to_string(self.root.join("build-version")) {
            return Ok(version.trim().into());
        }
        let path = self.root.join("version.py");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let quoted = text.lines().find_map(|line| line.strip_prefix("__version__ = "));
        let version = quoted.map(|value| value.trim().trim_matches(['\'', '"']).to_owned());
        version.with_context(|| format!("{}: expected a line `__version__ = …`", path.display()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes a tree that looks like libtorch of this version.
    pub(in crate::setup) fn make(root: &Path, version: &str) {
        for name in NEEDED {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "content").unwrap();
        }
        std::fs::write(root.join("version.py"), format!("__version__ = '{version}'\n")).unwrap();
    }

    #[test]
    fn a_tree_must_be_whole_and_of_the_right_version() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path().join("libtorch"));
        let error = |tree: &Tree| format!("{:#}", tree.check().unwrap_err());
        assert!(error(&tree).contains("include/ATen/ATen.h"));
        make(tree.root(), "2.13.0+cu130");
        assert_eq!(tree.check().unwrap(), Release::newest());
        assert!(tree.describe().unwrap().starts_with("libtorch 2.13.0+cu130 (CPU) in "));
        std::fs::write(tree.root().join("lib/libtorch_cpu.so"), "").unwrap();
        assert!(error(&tree).contains("libtorch_cpu.so: expected a file with content"));
        make(tree.root(), "2.13.1");
        assert!(error(&tree).contains("expected libtorch 2.11.0, 2.12.0, 2.13.0, got 2.13.1"));
        std::fs::write(tree.root().join("build-version"), "2.13.0+cpu\n").unwrap();
        tree.check().unwrap();
        std::fs::write(tree.root().join("lib/libtorch_cuda.so"), "x").unwrap();
        assert_eq!(tree.device(), Device::Cuda);
    }
}

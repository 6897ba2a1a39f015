//! Fetching libtorch into a scratch folder and moving it into place.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::probe;
use super::release::Release;
use super::tree::Tree;
use crate::exit::note;
use crate::pip::{Pin, Pip};
use crate::wheel::{self, explain};

/// Two small libraries that `libtorch_cpu.so` of the CUDA build needs, whatever its release.
const RUNTIME: [Pin; 2] = [
    Pin {
        requirement: "nvidia-cuda-runtime==13.0.96",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    },
    Pin {
        requirement: "nvidia-cuda-cupti==13.0.85",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    },
];

/// Scratch folders are named so; what an earlier setup left behind is removed.
const SCRATCH: &str = ".setup-";

/// The linker script in place of the wheel's `libtorch.so`, which would pull in CUDA.
const LINKER_SCRIPT: &str = "INPUT(libtorch_cpu.so)\n";

/// Installs the CPU part of libtorch as `target/libtorch`.
pub(super) fn cpu(target: &Path, pip: &Pip, release: &Release) -> Result<()> {
    let scratch = scratch(target)?;
    let tree = Tree::new(scratch.path().join("libtorch"));
    let version = release.version;
    note(&format!("libtorch: downloading torch {version} (530 MB) and two CUDA stubs (13 MB)"));
    for pin in [&release.wheel, &RUNTIME[0], &RUNTIME[1]] {
        let wheel = pip.download(pin, scratch.path())?;
        note(&format!("libtorch: unpacking {}", pin.requirement));
        wheel::unpack(&wheel, tree.root(), cpu_place)?;
        // Only to save space while the next one comes; the scratch folder goes anyway.
        std::fs::remove_file(&wheel).map_err(|e| explain(e, &wheel))?;
    }
    let script = tree.root().join("lib/libtorch.so");
    std::fs::write(&script, LINKER_SCRIPT).map_err(|e| explain(e, &script))?;
    tree.check()?;
    probe::run(&tree, scratch.path())?;
    replace(tree.root(), &target.join("libtorch"), scratch.path())
}

/// Where a file of one of the wheels belongs in a CPU tree.
fn cpu_place(name: &str) -> Option<String> {
    const FILES: [(&str, &str); 6] = [
        ("torch/version.py", "version.py"),
        ("torch/lib/libc10.so", "lib/libc10.so"),
        ("torch/lib/libgomp.so.1", "lib/libgomp.so.1"),
        ("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
        ("nvidia/cu13/lib/libcudart.so.13", "lib/libcudart.so.13"),
        ("nvidia/cu13/lib/libcupti.so.13", "lib/libcupti.so.13"),
    ];
    if let Some(header) = name.strip_prefix("torch/include/") {
        return Some(format!("include/{header}"));
    }
    FILES.iter().find(|(from, _)| *from == name).map(|(_, to)| (*to).into())
}

/// Installs torch with CUDA as `target/libtorch-cuda`, and `target/libtorch` as a link into it:
/// its libraries find those of `nvidia/` beside it by their own relative paths.
pub(super) fn cuda(target: &Path, pip: &Pip, release: &Release) -> Result<()> {
    let scratch = scratch(target)?;
    let all = scratch.path().join("all");
    let version = release.version;
    note(&format!("libtorch: downloading torch {version} with all CUDA libraries (about 3 GB)"));
    pip.install(release.wheel.requirement, &all)?;
    let tree = Tree::new(all.join("torch"));
    tree.check()?;
    probe::run(&tree, scratch.path())?;
    let place = target.join("libtorch-cuda");
    replace(&all, &place, scratch.path())?;
    link(&place.join("torch"), &target.join("libtorch"), scratch.path())
}

/// A folder in `target` that goes when it is dropped; those of killed setups go now.
pub(super) fn scratch(target: &Path) -> Result<TempDir> {
    for entry in std::fs::read_dir(target)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) && entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| entry.path().display().to_string())?;
        }
    }
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(target);
    scratch.map_err(|e| explain(e, target))
}

/// Makes `place` a symbolic link to `original`, in one step.
pub(super) fn link(original: &Path, place: &Path, scratch: &Path) -> Result<()> {
    let new = scratch.join("link");
    std::os::unix::fs::symlink(original, &new).map_err(|e| explain(e, &new))?;
    replace(&new, place, scratch)
}

/// Moves `new` to `place`; what is there goes with the scratch folder.
fn replace(new: &Path, place: &Path, scratch: &Path) -> Result<()> {
    sync(scratch)?;
    let old = tempfile::tempdir_in(scratch)?.keep().join("old");
    match std::fs::rename(place, &old) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(explain(e, place)),
        _ => std::fs::rename(new, place).map_err(|e| explain(e, place)),
    }
}

/// Waits until all that was written is on the disk, thousands of headers in one call.
fn sync(folder: &Path) -> Result<()> {
    let folder = std::fs::File::open(folder)?;
    rustix::fs::syncfs(folder).context("writing libtorch to the disk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cpu_part_has_a_place() {
        let to = |name: &str| cpu_place(name).unwrap_or_default();
        assert_eq!(to("torch/include/ATen/ATen.h"), "include/ATen/ATen.h");
        assert_eq!(to("torch/lib/libtorch_cpu.so"), "lib/libtorch_cpu.so");
        assert_eq!(to("nvidia/cu13/lib/libcupti.so.13"), "lib/libcupti.so.13");
        assert_eq!(to("torch/lib/libtorch_cuda.so"), "");
        assert_eq!(to("torch/lib/libtorch.so"), "");
        assert_eq!(to("torch/__init__.py"), "");
    }

    #[test]
    fn replacing_is_whole_and_leftovers_go() {
        let target = tempfile::tempdir().unwrap();
        let place = target.path().join("libtorch");
        std::fs::create_dir_all(target.path().join(".setup-killed/lib")).unwrap();
        let folder = scratch(target.path()).unwrap();
        assert!(!target.path().join(".setup-killed").exists());
        for content in ["one", "two"] {
            let new = folder.path().join("new");
            std::fs::create_dir(&new).unwrap();
            std::fs::write(new.join("file"), content).unwrap();
            replace(&new, &place, folder.path()).unwrap();
            assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), content);
        }
        let elsewhere = tempfile::tempdir().unwrap();
        link(elsewhere.path(), &place, folder.path()).unwrap();
        assert_eq!(place.read_link().unwrap(), elsewhere.path());
        drop(folder);
        assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 1);
        assert!(elsewhere.path().exists());
    }
}

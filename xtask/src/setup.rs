//! `setup`: libtorch into `target/libtorch`, checked, whole or not at all.

mod install;
mod probe;
mod release;
mod tree;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::exit::{note, usage};
use crate::pip::Pip;
use crate::workspace::Workspace;
pub(crate) use release::{Release, parse as parse_release};
use tree::Tree;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  cargo xtask setup
  cargo xtask setup --torch 2.11
  LIBTORCH=/opt/libtorch cargo xtask setup")]
pub(crate) struct SetupArgs {
    /// Which build of libtorch; default: the one that is there, else cpu
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Which release of libtorch, 2.11 to 2.13; default: the one that is there, else the newest.
    /// Cargo.lock is changed to the tch that is made for it
    #[arg(long, value_name = "VERSION")]
    torch: Option<String>,
}

/// A build of libtorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Device {
    /// The CPU alone: 0.5 GB
    Cpu,
    /// CPU and CUDA 13: about 5 GB
    Cuda,
}

pub(crate) fn run(workspace: &Workspace, args: &SetupArgs) -> Result<()> {
    let release = args.torch.as_deref().map(parse_release).transpose()?;
    let setup = Setup::new(workspace);
    setup.ensure(args.device, release)?.lock(workspace)?;
    say!("{}", Tree::new(setup.libtorch()).describe()?);
    Ok(())
}

/// Makes sure that a libtorch is there, and the tch that fits it; says nothing if they are.
///
/// A bundle is started with the libtorch that it needs.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    if workspace.is_bundle() {
        return Ok(());
    }
    Setup::new(workspace).ensure(None, None)?.lock(workspace)
}

/// The version of the libtorch that programs run with, where it is known: in a bundle that of the
/// first folder of libraries.
pub(crate) fn version(workspace: &Workspace) -> Option<String> {
    let root = if workspace.is_bundle() {
        let paths = std::env::var_os("LD_LIBRARY_PATH")?;
        std::env::split_paths(&paths).next()?.parent()?.to_owned()
    } else {
        workspace.target().join("libtorch")
    };
    Tree::new(root).version().ok()
}

/// The release of the libtorch that is there.
pub(crate) fn present(workspace: &Workspace) -> Option<&'static Release> {
    Setup::new(workspace).good(None, None)
}

/// Makes sure that libtorch of a release is there, for the CPU.
pub(crate) fn ensure_release(workspace: &Workspace, release: &'static Release) -> Result<()> {
    let setup = Setup { own: None, ..Setup::new(workspace) };
    setup.ensure(Some(Device::Cpu), Some(release))?.lock(workspace)
}

/// A setup of libtorch in a target folder.
struct Setup {
    target: PathBuf,
    /// The user's own libtorch.
    own: Option<PathBuf>,
    /// The Python whose pip downloads, if not the first that is found.
    python: Option<PathBuf>,
}

impl Setup {
    fn new(workspace: &Workspace) -> Self {
        let target = workspace.target();
        // Cargo sets LIBTORCH to the workspace's own; only another is the user's.
        let own = std::env::var_os("LIBTORCH").map(PathBuf::from);
        let own = own.filter(|path| *path != target.join("libtorch"));
        Self { target, own, python: None }
    }

    fn libtorch(&self) -> PathBuf {
        self.target.join("libtorch")
    }

    /// Makes sure that a libtorch as wanted is there, and gives its release.
    fn ensure(
        &self,
        device: Option<Device>,
        release: Option<&'static Release>,
    ) -> Result<&'static Release> {
        if let Some(found) = self.good(device, release) {
            return Ok(found);
        }
        std::fs::create_dir_all(&self.target).with_context(|| self.target.display().to_string())?;
        let _lock = lock(&self.target.join(".setup.lock"))?;
        if let Some(found) = self.good(device, release) {
            return Ok(found);
        }
        if let Some(own) = &self.own {
            return self.link_own(own, device, release);
        }
        let release = release.unwrap_or_else(Release::newest);
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            bail!(usage(format!(
                "libtorch is fetched for Linux on x86-64 only; install libtorch {} and set \
                 LIBTORCH to its folder",
                release.version
            )));
        }
        let python = self.python.as_ref();
        let pip = python.map_or_else(Pip::find, Pip::with).context("downloading libtorch")?;
        let start = Instant::now();
        match device {
            Some(Device::Cuda) => install::cuda(&self.target, &pip, release)?,
            _ => install::cpu(&self.target, &pip, release)?,
        }
        note(&format!("libtorch is ready after {:.0} s", start.elapsed().as_secs_f64()));
        Ok(release)
    }

    /// The release in `target/libtorch` if it is what is wanted: whole, of the right version and
    /// build.
    fn good(
        &self,
        device: Option<Device>,
        release: Option<&'static Release>,
    ) -> Option<&'static Release> {
        let tree = Tree::new(self.libtorch());
        let found = tree.check().ok()?;
        let is_own = |own: &PathBuf| own.canonicalize().ok() == tree.root().canonicalize().ok();
        let is_wanted = self.own.as_ref().is_none_or(is_own)
            && device.is_none_or(|device| tree.device() == device)
            && release.is_none_or(|release| found == release);
        is_wanted.then_some(found)
    }

    /// Makes `target/libtorch` a link to the user's libtorch, if that can be used.
    fn link_own(
        &self,
        own: &Path,
        device: Option<Device>,
        release: Option<&'static Release>,
    ) -> Result<&'static Release> {
        let tree = Tree::new(own.canonicalize().unwrap_or_else(|_| own.into()));
        let remedy = "LIBTORCH is set, but cannot be used; correct it, or unset it to have \
                      libtorch fetched";
        let found = tree.check().map_err(|e| usage(format!("{e:#}"))).context(remedy)?;
        if let Some(release) = release.filter(|release| *release != found) {
            let expected = release.version;
            bail!(usage(format!("LIBTORCH: expected libtorch {expected}, got {}", found.version)));
        }
        if let Some(device) = device
            && device != tree.device()
        {
            let got = tree.describe()?;
            bail!(usage(format!("LIBTORCH: expected a build for {device:?}, got {got}")));
        }
        note(&format!("using the libtorch of LIBTORCH, {}", tree.root().display()));
        probe::run(&tree, &self.target).context(remedy)?;
        let scratch = install::scratch(&self.target)?;
        install::link(tree.root(), &self.libtorch(), scratch.path())?;
        Ok(found)
    }
}

/// Takes the lock of setups, waiting for another to end.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).map_err(|e| crate::wheel::explain(e, path))?;
    if file.try_lock().is_err() {
        note("waiting for another setup to end");
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pip::tests::fake_python;

    fn setup(target: &Path) -> Setup {
        Setup { target: target.into(), own: None, python: None }
    }

    #[test]
    fn a_failed_download_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 'ERROR: No space left on device' >&2; exit 1";
        let python = fake_python(folder.path(), script);
        let target = folder.path().join("target");
        let setup = Setup { python: Some(python), ..setup(&target) };
        let error = format!("{:#}", setup.ensure(None, None).unwrap_err());
        assert!(error.contains("torch==2.13.0") && error.contains("the disk is full"), "{error}");
        let left = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), [".setup.lock"]);
    }

    #[test]
    fn without_pip_the_remedy_is_named() {
        let target = tempfile::tempdir().unwrap();
        let setup = Setup { python: Some("/bin/false".into()), ..setup(target.path()) };
        let error = format!("{:#}", setup.ensure(None, None).unwrap_err());
        assert!(error.contains("downloading libtorch: `/bin/false -m pip`"), "{error}");
    }

    #[test]
    fn a_good_tree_is_kept_and_a_wrong_own_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let setup = setup(folder.path());
        tree::tests::make(&setup.libtorch(), "2.13.0+cpu");
        assert_eq!(setup.ensure(None, None).unwrap(), Release::newest());
        setup.ensure(Some(Device::Cpu), None).unwrap();
        assert_eq!(setup.good(Some(Device::Cuda), None), None);
        assert_eq!(setup.good(None, Release::find("2.11")), None);

        let own = folder.path().join("own");
        tree::tests::make(&own, "2.4.0");
        let setup = Setup { own: Some(own), ..setup };
        let error = setup.ensure(None, None).unwrap_err();
        let text = crate::exit::message(&error);
        assert!(text.contains("LIBTORCH") && text.contains("2.13.0") && text.contains("2.4.0"));
    }
}

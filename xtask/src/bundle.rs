//! `bundle`: release binaries in a folder that runs with the PyTorch of another machine.

pub(crate) mod archive;

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::exit::{note, usage};
use crate::setup::Release;
use crate::wheel::explain;
use crate::workspace::Workspace;
use crate::{device_tests, process, setup};

#[derive(Debug, Args)]
#[command(after_help = "Example:
  cargo xtask bundle --torch 2.11 --out softsae-torch-2.11
  softsae-torch-2.11/run softsae --help
  softsae-torch-2.11/run xtask sweep --devices cuda:0
  softsae-torch-2.11/run gpu-check --out gpu-check

The folder runs where PyTorch of the same release is installed, with or without CUDA; Rust and the \
network are not needed there.")]
pub(crate) struct BundleArgs {
    /// Release of libtorch to build for, 2.11 to 2.13; default: the one in target/libtorch
    #[arg(long, value_name = "VERSION")]
    torch: Option<String>,
    /// The new folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What starts the programs of a bundle.
const RUN: &str = include_str!("bundle/run");

/// The place in it of the release that the programs are built for.
const RELEASE_MARK: &str = "@RELEASE@";

/// The programs: package, and name.
const PROGRAMS: [(&str, &str); 2] = [("softsae", "softsae"), ("xtask", "xtask")];

pub(crate) fn run(workspace: &Workspace, args: &BundleArgs) -> Result<()> {
    if args.out.exists() {
        bail!(usage(format!("--out: {} is there already", args.out.display())));
    }
    let (sources, release) = sources(workspace, args.torch.as_deref())?;
    let parent = args.out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| explain(e, parent))?;
    let scratch = tempfile::tempdir_in(parent).map_err(|e| explain(e, parent))?;
    let folder = scratch.path().join("bundle");

    note(&format!("building for libtorch {}", release.version));
    for (package, name) in PROGRAMS {
        strip(&process::build(&sources, package)?, &folder.join("bin").join(name))?;
    }
    let bench = scratch.path().join("bench");
    for program in process::build_benches(&sources)? {
        strip(&program.path, &bench.join(&program.name))?;
    }
    for name in crate::bench::SCRIPTS.iter().map(|script| script.file) {
        let script = workspace.root().join("benches/pytorch").join(name);
        std::fs::copy(&script, bench.join(name)).map_err(|e| explain(e, &script))?;
    }
    archive::pack(&bench, &folder.join("bench.zip"))?;
    let tests = scratch.path().join("tests");
    for program in device_tests::build(&sources, true)? {
        let own = tests.join(&program.package);
        strip(&program.path, &own.join(&program.name))?;
        if let Some(golden) = device_tests::golden(workspace, &program.package) {
            copy(&golden, &own.join("golden"))?;
        }
    }
    archive::pack(&tests, &folder.join("tests.zip"))?;
    copy(&workspace.sweeps(), &folder.join("xtask/sweeps"))?;
    let start = folder.join("run");
    std::fs::write(&start, RUN.replace(RELEASE_MARK, release.version))
        .map_err(|e| explain(e, &start))?;
    std::fs::set_permissions(&start, std::fs::Permissions::from_mode(0o755))?;

    rustix::fs::syncfs(File::open(scratch.path())?).context("writing the bundle to the disk")?;
    std::fs::rename(&folder, &args.out).map_err(|e| explain(e, &args.out))?;
    let bytes = size(&args.out)?;
    say!(
        "{}: softsae for PyTorch {}, {:.1} MiB",
        args.out.display(),
        release.version,
        bytes as f64 / f64::from(1 << 20)
    );
    Ok(())
}

/// The workspace to build in: this one if its libtorch is of the release, else one with the same
/// sources, and a lock file and a target folder of its own.
fn sources(workspace: &Workspace, torch: Option<&str>) -> Result<(Workspace, &'static Release)> {
    let wanted = torch.map(setup::parse_release).transpose()?;
    let present = setup::present(workspace);
    match (wanted, present) {
        (Some(wanted), present) if present != Some(wanted) => {
            let root = workspace.target().join(format!("torch-{}", wanted.version));
            let sources = twin(workspace, &root)?;
            setup::ensure_release(&sources, wanted)?;
            Ok((sources, wanted))
        }
        _ => {
            setup::ensure(workspace)?;
            let present = setup::present(workspace).context("target/libtorch is gone")?;
            Ok((workspace.clone(), present))
        }
    }
}

/// A workspace in `root` of links to the sources of another, with its own copy of the lock file.
fn twin(workspace: &Workspace, root: &Path) -> Result<Workspace> {
    std::fs::create_dir_all(root).map_err(|e| explain(e, root))?;
    for name in ["Cargo.toml", "crates", "xtask", "benches", ".cargo"] {
        let link = root.join(name);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(workspace.root().join(name), &link)
                .map_err(|e| explain(e, &link))?;
        }
    }
    let lock = root.join("Cargo.lock");
    std::fs::copy(workspace.root().join("Cargo.lock"), &lock).map_err(|e| explain(e, &lock))?;
    Ok(Workspace::at(root))
}

/// Copies a program without its symbols.
fn strip(program: &Path, place: &Path) -> Result<()> {
    let folder = place.parent().expect("a program lies in a folder");
    std::fs::create_dir_all(folder).map_err(|e| explain(e, folder))?;
    process::run(Command::new("strip").arg("-o").arg(place).arg(program), "strip")
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(|e| explain(e, to))?;
    for entry in std::fs::read_dir(from)? {
        let (entry, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if entry.is_dir() {
            copy(&entry, &target)?;
        } else {
            std::fs::copy(&entry, &target).map_err(|e| explain(e, &target))?;
        }
    }
    Ok(())
}

/// Bytes of all files of a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            size(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::process::Output;

    use super::*;

    /// Runs the start script of a bundle whose programs are shell scripts, beside a PyTorch.
    fn start(torch: &str, version: &str, args: &[&str]) -> Output {
        start_with(torch, version, args, &|_, _| {})
    }

    /// As [`start`]; `change` is given the folder and the command before it runs.
    fn start_with(
        torch: &str,
        version: &str,
        args: &[&str],
        change: &dyn Fn(&Path, &mut Command),
    ) -> Output {
        let folder = tempfile::tempdir().unwrap();
        let (bin, lib) = (folder.path().join("bin"), folder.path().join("site/torch/lib"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::create_dir_all(folder.path().join("site/nvidia/cu13/lib")).unwrap();
        std::fs::write(lib.join("libtorch_cpu.so"), "a library").unwrap();
        let version = format!("__version__ = '{version}'\n");
        std::fs::write(folder.path().join("site/torch/version.py"), version).unwrap();
        std::fs::write(folder.path().join("site/torch/__init__.py"), "raise SystemExit(9)")
            .unwrap();
        // A shell writes what is to be started: see `fake_python`.
        let mut shell = Command::new("sh");
        shell.current_dir(&folder).arg("-c").arg(
            "printf '#!/bin/sh\\necho \"$LD_LIBRARY_PATH\"; echo \"$SOFTSAE_BUNDLE\"; echo \"$0 $@\"; exit 7\\n' \
             > bin/softsae; cp bin/softsae bin/xtask; printf %s \"$1\" > run; \
             chmod +x bin/softsae bin/xtask run",
        );
        shell.arg("sh").arg(RUN.replace(RELEASE_MARK, torch));
        assert!(shell.status().unwrap().success());
        let mut command = Command::new(folder.path().join("run"));
        command.args(args).env_remove("LIBTORCH").env_remove("LD_LIBRARY_PATH");
        command.env_remove("PYTHON").env("PYTHONPATH", folder.path().join("site"));
        change(folder.path(), &mut command);
        command.output().unwrap()
    }

    #[test]
    fn a_program_is_started_with_the_torch_that_is_there() {
        for (args, started) in [
            (["softsae", "train", "a b"], "bin/softsae train a b"),
            (["xtask", "sweep", "x"], "bin/xtask sweep x"),
            (["device-tests", "--filter", "x"], "bin/xtask device-tests --filter x"),
            (["bench", "train-step", "x"], "bin/xtask bench train-step x"),
            (["gpu-check", "--out", "x"], "bin/xtask gpu-check --out x"),
        ] {
            let output = start("2.11.0", "2.11.0+cu130", &args);
            let text = String::from_utf8(output.stdout).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(output.status.code(), Some(7), "{lines:?}");
            let (first, second) = lines[0].split_once(':').unwrap();
            assert!(first.ends_with("site/torch/lib"), "{text}");
            assert!(second.ends_with("nvidia/cu13/lib"), "{text}");
            assert!(lines[2].ends_with(started), "{text}");
        }
    }

    #[test]
    fn another_torch_or_program_is_refused() {
        for (version, args, words) in [
            ("2.13.0+cu130", &["softsae"][..], "expected PyTorch 2.11, got 2.13.0"),
            ("2.11.1", &["nothing"][..], "no program `nothing`"),
            ("2.11.0", &[][..], "expected a program"),
        ] {
            let output = start("2.11.0", version, args);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn without_a_usable_torch_the_remedy_is_named() {
        type Change = fn(&Path, &mut Command);
        let changes: [(Change, &str); 5] = [
            (
                |_, run| {
                    run.env("PYTHON", "no-such-python");
                },
                "no `no-such-python`",
            ),
            (
                |_, run| {
                    run.env_remove("PYTHONPATH").env("PYTHON", "true");
                },
                "`true` has no PyTorch",
            ),
            (
                |folder, run| {
                    run.env("LIBTORCH", folder);
                },
                "has no lib/libtorch_cpu.so",
            ),
            (
                |folder, _| std::fs::remove_file(folder.join("site/torch/version.py")).unwrap(),
                "got an unknown one",
            ),
            (
                |folder, _| std::fs::remove_dir_all(folder.join("site/torch/lib")).unwrap(),
                "has no lib/libtorch_cpu.so",
            ),
        ];
        for (change, words) in changes {
            let output = start_with("2.11.0", "2.11.0", &["softsae"], &change);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.starts_with("error: ") && said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_twin_has_the_same_sources_and_a_lock_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let twin = twin(&Workspace::find(), &folder.path().join("twin")).unwrap();
        assert!(twin.root().join("crates/softsae/Cargo.toml").exists());
        assert!(twin.root().join("Cargo.lock").symlink_metadata().unwrap().is_file());
    }
}

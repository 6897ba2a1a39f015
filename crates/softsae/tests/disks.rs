//! Full and read-only disks.
//!
//! Where the tests may mount (as root), a disk is a small tmpfs; elsewhere a bound on the size of
//! files stands in for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{metrics, plant, run_toml, softsae_program, str, succeed, text};

/// A disk of a given size, gone at the end.
struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
    full: bool,
}

impl Disk {
    fn new(kib: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"], &folder);
        Self { folder, mounted, full: true }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `softsae`; without a mount, no file may grow beyond `file_kib`.
    fn softsae(&self, args: &[&str], file_kib: u64) -> Output {
        if self.mounted || !self.full {
            return crate::softsae(args.iter().copied());
        }
        let limit = format!("trap '' XFSZ; ulimit -f {file_kib}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("bash");
        shell.args(["-c", &limit]).arg(softsae_program()).args(args);
        shell.output().expect("bash starts")
    }

    /// Runs `softsae`, which must fail for want of space, naming one of `files`.
    fn fails_full(&self, args: &[&str], file_kib: u64, files: &[&str]) {
        let output = self.softsae(args, file_kib);
        let stderr = text(&output.stderr);
        let reason = if self.mounted { "No space left on device" } else { "File too large" };
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(reason), "expected {reason:?} in: {stderr}");
        assert!(files.iter().any(|file| stderr.contains(file)), "expected {files:?} in: {stderr}");
    }

    /// Makes room.
    fn grow(&mut self) {
        self.full = false;
        if self.mounted {
            assert!(mount(&["-o", "remount,size=64m", "tmpfs"], &self.folder));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let unmounted = Command::new("umount").arg(self.path()).status();
            assert!(unmounted.is_ok_and(|status| status.success()), "umount failed");
        }
    }
}

fn mount(args: &[&str], folder: &tempfile::TempDir) -> bool {
    let output = Command::new("mount").args(args).arg(folder.path()).output();
    output.is_ok_and(|output| output.status.success())
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("checkpoint/sae.safetensors")).expect("weights")
}

/// A store, a configuration over it with these last lines, and the run that had space.
fn undisturbed(folder: &Path, n_features: &str, more: &str) -> (PathBuf, PathBuf) {
    let (store, config, whole) =
        (folder.join("store"), folder.join("run.toml"), folder.join("whole"));
    plant(&store, 1000, 32);
    let text = run_toml(&store, "name = \"topk\"\nk = 3", 400)
        .replace("n_features = 256", n_features)
        .replace("log_every = 5", "log_every = 1");
    fs::write(&config, text + more).expect("writes");
    succeed(["train", str(&config), "--out", str(&whole), "--threads", "1"]);
    (config, whole)
}

#[test]
fn a_shard_on_a_full_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = folder.path().join("whole");
    plant(&whole, 4000, 32);
    let mut disk = Disk::new(256);
    let out = disk.path().join("store");
    let config = whole.with_extension("toml");
    let args = ["plant", str(&config), "--out", str(&out)];
    disk.fails_full(&args, 128, &["shard-00000.safetensors"]);
    crate::fail(["inspect", str(&out)], 2, &["expected a finished store"]);
    disk.grow();
    succeed(args);
    for name in ["manifest.json", "shard-00000.safetensors"] {
        let read = |store: &Path| fs::read(store.join(name)).expect("reads");
        assert!(read(&whole) == read(&out), "{name} differs");
    }
}

/// A state takes about 200 KiB.
#[test]
fn a_checkpoint_on_a_full_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let more = "checkpoint_every = 20\nkeep_checkpoints = 4\n";
    let (config, whole) = undisturbed(folder.path(), "n_features = 256", more);
    let mut disk = Disk::new(700);
    let out = disk.path().join("run");
    let args = ["train", str(&config), "--out", str(&out), "--resume", "--threads", "1"];
    let files = ["trainer.safetensors", "sae.safetensors", "sae.json", "trainer.json"];
    disk.fails_full(&args, 120, &files);
    assert!(!out.join("checkpoint").exists());
    disk.grow();
    succeed(args);
    assert!(weights(&whole) == weights(&out), "resumed weights differ");
    assert_eq!(metrics(&whole), metrics(&out));
}

#[test]
fn metrics_on_a_full_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let more = "checkpoint_every = 0\n";
    let (config, whole) = undisturbed(folder.path(), "n_features = 16", more);
    let mut disk = Disk::new(48);
    let out = disk.path().join("run");
    let args = ["train", str(&config), "--out", str(&out), "--resume", "--threads", "1"];
    disk.fails_full(&args, 16, &["metrics.jsonl", "events.out.tfevents.softsae"]);
    disk.grow();
    succeed(args);
    assert!(weights(&whole) == weights(&out), "weights differ");
    assert_eq!(metrics(&whole), metrics(&out));
}

/// The weights take two pages, and there are no more.
#[test]
fn an_export_on_a_full_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_, whole) = undisturbed(folder.path(), "n_features = 16", "checkpoint_every = 0\n");
    let mut disk = Disk::new(8);
    let (model, out) = (whole.join("checkpoint"), disk.path().join("exported"));
    let args = ["export", str(&model), "--format", "saelens", "--out", str(&out)];
    disk.fails_full(&args, 1, &["cfg.json", "sae_weights.safetensors"]);
    disk.grow();
    crate::fail(args, 2, &["--out: expected a new or empty folder"]);
    fs::remove_dir_all(&out).expect("removes");
    succeed(args);
}

#[test]
fn a_store_on_a_read_only_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::new(4096);
    let (store, config) = (disk.path().join("store"), folder.path().join("run.toml"));
    plant(&store, 1000, 32);
    if disk.mounted {
        assert!(mount(&["-o", "remount,ro", "tmpfs"], &disk.folder));
    } else {
        for folder in [store.as_path(), disk.path()] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
            fs::set_permissions(folder, mode).expect("permissions");
        }
    }
    fs::write(&config, run_toml(&store, "name = \"topk\"\nk = 3", 20)).expect("writes");
    succeed(["inspect", str(&store)]);
    let out = folder.path().join("run");
    succeed(["train", str(&config), "--out", str(&out)]);
    let checkpoint = out.join("checkpoint");
    succeed(["eval", str(&checkpoint), "--data", str(&store)]);

    let beside = disk.path().join("run");
    let reason = if disk.mounted { "Read-only file system" } else { "Permission denied" };
    crate::fail(["train", str(&config), "--out", str(&beside)], 1, &[str(&beside), reason]);
    if !disk.mounted {
        for folder in [disk.path(), store.as_path()] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(folder, mode).expect("permissions");
        }
    }
}

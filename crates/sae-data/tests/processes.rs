//! What only a process of its own can suffer: being killed, a full disk, missing permission.
//!
//! Each test starts this test binary again with `SOFTSAE_DATA_CHILD` set, which makes
//! [`child`] do the deed.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sae_data::{Dtype, Error, Loader, LoaderConfig, Statistics, StoreWriter, open_store};

use crate::support::{append, read_all, rows, spec, write_store};

const N_ROWS: u64 = 4000;
const D_MODEL: usize = 32;
const ROWS_PER_SHARD: u64 = 300;

fn resume(dir: &Path) -> sae_data::Result<()> {
    let mut writer = StoreWriter::resume(dir, spec(D_MODEL, ROWS_PER_SHARD, Dtype::F32))?;
    let mut start = writer.n_rows();
    while start < N_ROWS {
        let end = N_ROWS.min(start + 50);
        writer.append(&rows(start..end, D_MODEL), &crate::support::meta(start..end))?;
        start = end;
    }
    writer.finish()
}

/// Nothing when run as a test; the child's part when started by one of the others.
#[test]
fn child() {
    let Some(part) = std::env::var_os("SOFTSAE_DATA_CHILD") else { return };
    let dir = PathBuf::from(std::env::var_os("SOFTSAE_DATA_DIR").unwrap());
    let report = match part.to_str().unwrap() {
        "write" => resume(&dir).map_err(|e| e.to_string()),
        "read" => open_store(&dir)
            .and_then(|store| Statistics::cached(&*store))
            .map(|_| ())
            .map_err(|e| e.to_string()),
        "load" => load(&dir).map_err(|e| e.to_string()),
        other => Err(format!("no part {other}")),
    };
    println!("report: {report:?}");
}

/// Takes a whole epoch and says how much memory that needed.
fn load(store: &Path) -> sae_data::Result<()> {
    let store = open_store(store)?;
    let mut loader = Loader::new(store, LoaderConfig { batch_size: 2048, ..Default::default() })?;
    let mut batch = vec![0.0; loader.batch_size() * loader.d_model()];
    while loader.position().epoch == 0 {
        loader.next_batch(&mut batch)?;
        std::hint::black_box(&mut batch);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).unwrap());
    Ok(())
}

fn command(part: &str, dir: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", "processes::child", "--nocapture"]);
    command.env("SOFTSAE_DATA_CHILD", part).env("SOFTSAE_DATA_DIR", dir);
    command
}

fn report(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| Some(line.split_once("report: ")?.1.to_owned()));
    line.unwrap_or_else(|| panic!("no report in {text}"))
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn shards(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_killed_writer_ends_in_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    let mut writer =
        StoreWriter::create(whole.path(), spec(D_MODEL, ROWS_PER_SHARD, Dtype::F32)).unwrap();
    append(&mut writer, 0..N_ROWS, D_MODEL);
    writer.finish().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let mut kills = 0;
    for attempt in 0_u64.. {
        let mut command = command("write", dir.path(), &this_program());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 + attempt * 7 % 40));
        child.kill().unwrap();
        if child.wait().unwrap().success() || open_store(dir.path()).is_ok() {
            break;
        }
        kills += 1;
        assert!(kills < 500, "the store is never finished");
    }
    assert!(kills > 0, "the writer was too fast to be killed");
    assert_eq!(shards(dir.path()), shards(whole.path()), "after {kills} kills");
    open_store(dir.path()).unwrap().verify().unwrap();
}

/// A store of 2 GiB passes through two windows of 128 MiB, the default, and a thread's buffers.
#[test]
fn memory_does_not_grow_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("sparse_1048576_512.npy");
    std::fs::File::create(&store).unwrap().set_len(2 << 30).unwrap();
    let output = command("load", &store, &this_program()).output().unwrap();
    assert_eq!(report(&output), "Ok(())");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 200 << 10, "at most 200 MiB, got {peak_kib} KiB");
}

#[test]
fn a_full_disk_leaves_whole_shards_only() {
    let dir = tempfile::tempdir().unwrap();
    let program = this_program();
    // Shards are 43 kB: the limit of 20 blocks of 1 kB stops the first one.
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\""]).arg(&program);
    let inner = command("write", dir.path(), &program);
    shell.args(inner.get_args());
    shell.envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let report = report(&shell.output().unwrap());
    assert!(report.contains("shard-00000.safetensors") && report.contains("too large"), "{report}");
    assert!(matches!(open_store(dir.path()), Err(Error::Incomplete { n_rows: 0, .. })));
    let names: Vec<String> = shards(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["manifest.json"]);
    resume(dir.path()).unwrap();
    assert_eq!(read_all(&*open_store(dir.path()).unwrap()), rows(0..N_ROWS, D_MODEL));
}

/// The superuser may do anything, so as such the child runs as another user.
#[test]
fn permissions_are_respected_and_a_read_only_store_works() {
    let place = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(place.path(), 0o755);
    let program = place.path().join("program");
    // By another process: what this one has open for writing, children of other tests could hold
    // open, and then it does not start.
    let copied = Command::new("cp").arg(this_program()).arg(&program).status().unwrap();
    assert!(copied.success());
    mode(&program, 0o755);
    let dir = place.path().join("store");
    write_store(&dir, 600, spec(D_MODEL, ROWS_PER_SHARD, Dtype::F32));
    let superuser = std::fs::metadata(place.path()).unwrap().uid() == 0;
    let run = |part| {
        let mut command = command(part, &dir, &program);
        if superuser {
            command.uid(65534).gid(65534);
        }
        report(&command.output().unwrap())
    };

    mode(&dir, 0o555);
    assert_eq!(run("read"), "Ok(())");
    let unwritable = run("write");
    assert!(
        unwritable.contains("Permission denied") || unwritable.contains("unfinished"),
        "{unwritable}"
    );
    let shard = dir.join("shard-00001.safetensors");
    mode(&shard, 0o000);
    let denied = run("read");
    assert!(denied.contains("shard-00001.safetensors: Permission denied"), "{denied}");
    mode(&dir, 0o755);
}

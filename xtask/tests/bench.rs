//! A folder with the programs as a bundle has them, and sweeps in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Time in which whatever is waited for must have happened, on a machine however busy.
fn patience() -> Duration {
    Duration::from_secs(if crate::slurm::is_large() { 3600 } else { 240 })
}

/// A temporary folder in which sweeps are made.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    /// Variables for what is started.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// A sweep at work.
pub(crate) struct Sweep {
    child: Child,
    said: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bundle = folder.path().join("bundle");
        fs::create_dir_all(bundle.join("bin")).expect("made");
        fs::create_dir_all(bundle.join("xtask/sweeps")).expect("made");
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        let softsae = xtask.with_file_name("softsae");
        assert!(softsae.exists(), "expected {softsae:?}: run `cargo build --package softsae`");
        std::os::unix::fs::symlink(&softsae, bundle.join("bin/softsae")).expect("linked");
        let variables = vec![("SOFTSAE_BUNDLE", bundle.to_str().expect("UTF-8").to_owned())];
        Self { folder, variables }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a sweep over planted data: runs of so many steps of the axes, which are lines of TOML.
    pub(crate) fn write(&self, name: &str, steps: u64, axes: &str) -> PathBuf {
        let text = format!(
            "[planted]\ntrain_rows = 2000\nheld_out_rows = 500\n\
             data = {{ d_model = 16, n_features = 32, k_max = 4 }}\n\
             [base]\narchitecture = {{ name = 'topk', k = 2 }}\nsae.n_features = 32\n\
             [base.training]\nsteps = {steps}\nbatch_size = 32\nlr = 1e-3\n\
             checkpoint_every = 500\n[axes]\n{axes}\n"
        );
        let file = self.at(name);
        fs::write(&file, text).expect("writes");
        file
    }

    /// The same with a table `[slurm]`.
    pub(crate) fn write_for_slurm(
        &self,
        name: &str,
        steps: u64,
        axes: &str,
        slurm: &str,
    ) -> PathBuf {
        let file = self.write(name, steps, axes);
        let text = fs::read_to_string(&file).expect("reads");
        fs::write(&file, format!("slurm = {{ {slurm} }}\n{text}")).expect("writes");
        file
    }

    /// Starts a sweep in the folder `out`.
    pub(crate) fn start(&self, file: &Path, args: &[&str]) -> Sweep {
        let said = self.at("said.txt");
        let output = File::options().create(true).append(true).open(&said).expect("opens");
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("sweep").arg(file).arg("--out").arg(self.at("out")).args(args);
        command.current_dir(self.folder.path()).envs(self.variables.iter().cloned());
        command.stdout(output.try_clone().expect("cloned")).stderr(output);
        Sweep { child: command.spawn().expect("xtask starts"), said }
    }

    /// Runs a sweep, which must end with `code` and say all of `words`.
    pub(crate) fn ends(&self, file: &Path, args: &[&str], code: i32, words: &[&str]) {
        let before = self.said().len();
        let status = self.start(file, args).wait();
        let said = self.said().split_off(before);
        assert_eq!(status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "expected {word:?} in: {said}");
        }
    }

    /// Runs a sweep with no other arguments than these, as [`Self::ends`].
    pub(crate) fn asks_sweep(&self, file: &Path, args: &[&str], code: i32, words: &[&str]) {
        let file = file.to_str().expect("UTF-8");
        let (got, said) = self.asks(&[&["sweep", file], args].concat());
        assert_eq!(got, Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "expected {word:?} in: {said}");
        }
    }

    /// Runs a command of xtask to its end; gives its exit code and what it said.
    pub(crate) fn asks(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = command.envs(self.variables.iter().cloned()).output().expect("xtask starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("UTF-8"))
    }

    /// All that sweeps have said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.at("said.txt")).unwrap_or_default()
    }

    /// The folders of the runs that were begun.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.at("out/runs")).into_iter().flatten();
        let mut folders: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        folders.sort();
        folders
    }

    /// The results, in the order of the sweep.
    pub(crate) fn results(&self) -> Vec<Value> {
        let results = json(&self.at("out/results.json"));
        results["runs"].as_array().expect("a list").clone()
    }

    /// How often a command was started in all runs, by their logs.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.runs().iter().map(|run| log(run).matches(words).count()).sum()
    }
}

impl Sweep {
    pub(crate) fn wait(mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the end of the sweep", || child.try_wait().expect("a child").is_some());
        self.child.wait().expect("ended")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("signalled");
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Waits until it has said some words.
    pub(crate) fn until_it_says(&self, words: &str) {
        until(words, || fs::read_to_string(&self.said).is_ok_and(|said| said.contains(words)));
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        // One that has ended is no matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something has happened.
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < patience(), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The log of a run.
pub(crate) fn log(run: &Path) -> String {
    fs::read_to_string(run.join("log.txt")).unwrap_or_default()
}

pub(crate) fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

/// The training process of a run at work.
pub(crate) fn training_process(run: &Path) -> Option<Pid> {
    let wanted = run.join("run.toml");
    let processes = fs::read_dir("/proc").expect("reads");
    processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()).find_map(
        |pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let mut words = line.split(|byte| *byte == 0);
            let is_it = words.any(|word| word == wanted.as_os_str().as_encoded_bytes());
            Pid::from_raw(pid).filter(|_| is_it)
        },
    )
}

//! A SLURM of one node: real daemons with a key, ports and folders of their own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::bench::{Bench, until};

/// What it consists of; Debian has them in `slurm-wlm` and `munge`.
const PROGRAMS: [&str; 7] =
    ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol"];

/// A cluster that ends with this value.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
    controller: Option<Child>,
}

impl Cluster {
    /// Starts one; says why not where the packages are missing.
    pub(crate) fn start(max_array_size: usize) -> Option<Self> {
        let missing: Vec<_> = PROGRAMS.iter().filter(|name| find(name).is_none()).collect();
        if !missing.is_empty() {
            println!("skipped: no {missing:?} here (Debian: slurm-wlm, munge)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cluster = Self { folder, daemons: Vec::new(), controller: None };
        cluster.write_key();
        cluster.write_configuration(max_array_size);
        let munge = ["key-file=munge.key", "socket=munge.sock", "pid-file=munge.pid"];
        let munge = munge.iter().chain(&["log-file=munge.log", "seed-file=munge.seed"]);
        let munge = munge.map(|option| {
            let (name, file) = option.split_once('=').expect("an option");
            format!("--{name}={}", cluster.at(file).display())
        });
        let munge: Vec<_> =
            ["--force", "--foreground"].map(String::from).into_iter().chain(munge).collect();
        let munged = cluster.daemon("munged", &munge);
        cluster.daemons.push(munged);
        until("munged", || cluster.at("munge.sock").exists());
        cluster.start_controller();
        let configuration = cluster.configuration().display().to_string();
        let slurmd = cluster.daemon("slurmd", &["-D".into(), "-f".into(), configuration]);
        cluster.daemons.push(slurmd);
        until("an idle node", || cluster.ask("sinfo", &["--noheader", "--format=%T"]) == "idle");
        Some(cluster)
    }

    /// A folder for sweeps on it: commands of SLURM look for the cluster in a variable.
    pub(crate) fn bench(&self) -> Bench {
        let mut bench = Bench::new();
        let configuration = self.configuration().to_str().expect("UTF-8").to_owned();
        bench.variables.push(("SLURM_CONF", configuration));
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configuration(&self) -> PathBuf {
        self.at("slurm.conf")
    }

    fn write_key(&self) {
        use std::io::Read as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut key = [0; 128];
        File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut key)).expect("random bytes");
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o400).open(self.at("munge.key"));
        std::io::Write::write_all(&mut file.expect("opens"), &key).expect("writes");
    }

    fn write_configuration(&self, max_array_size: usize) {
        let (host, user) = (output("hostname", &["-s"]), output("id", &["-un"]));
        // Both are asked for at once, so that they differ.
        let ports = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a port"));
        let [controller, node] = ports.map(|l| l.local_addr().expect("an address").port());
        let at = |name: &str| self.at(name).display().to_string();
        for name in ["state", "spool"] {
            fs::create_dir(self.at(name)).expect("made");
        }
        let text = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller}\n\
             SlurmdPort={node}\nSlurmUser={user}\nSlurmdUser={user}\nAuthType=auth/munge\n\
             AuthInfo=socket={socket},cred_expire=5\nCredType=cred/munge\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
             JobAcctGatherType=jobacct_gather/linux\nJobAcctGatherFrequency=task=1\n\
             JobAcctGatherParams=OverMemoryKill\nMpiDefault=none\n\
             PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_Core_Memory\nDefMemPerCPU=1000\nReturnToService=2\n\
             KillWait=10\nMessageTimeout=2\nMaxArraySize={max_array_size}\n\
             SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=2\n\
             StateSaveLocation={state}\nSlurmdSpoolDir={spool}\nSlurmctldLogFile={log}\n\
             SlurmdLogFile={node_log}\nSlurmctldPidFile={pid}\nSlurmdPidFile={node_pid}\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN\n\
             PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP\n\
             PartitionName=spare Nodes={host} PreemptMode=CANCEL GraceTime=0 State=UP\n\
             PartitionName=urgent Nodes={host} PriorityTier=9 State=UP\n",
            socket = at("munge.sock"),
            state = at("state"),
            spool = at("spool"),
            log = at("slurmctld.log"),
            node_log = at("slurmd.log"),
            pid = at("slurmctld.pid"),
            node_pid = at("slurmd.pid"),
        );
        fs::write(self.configuration(), text).expect("writes");
    }

    fn daemon(&self, name: &str, args: &[String]) -> Child {
        let said = File::create(self.at(&format!("{name}.said"))).expect("opens");
        let mut command = Command::new(find(name).expect("it was found before"));
        command.args(args).env("SLURM_CONF", self.configuration()).stdin(Stdio::null());
        command.stdout(said.try_clone().expect("cloned")).stderr(said);
        command.spawn().expect("a daemon starts")
    }

    /// Starts the controller, which goes on from the state that it has saved.
    pub(crate) fn start_controller(&mut self) {
        let configuration = self.configuration().display().to_string();
        self.controller =
            Some(self.daemon("slurmctld", &["-D".into(), "-f".into(), configuration]));
        until("slurmctld", || self.ask("scontrol", &["ping"]).contains("is UP"));
    }

    /// Ends the controller; what runs goes on.
    pub(crate) fn stop_controller(&mut self) {
        let mut controller = self.controller.take().expect("a controller");
        end(&mut controller);
    }

    /// What a command of SLURM prints.
    pub(crate) fn ask(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(find(program).expect("it is part of SLURM"));
        let output = command.args(args).env("SLURM_CONF", self.configuration()).output();
        String::from_utf8(output.expect("starts").stdout).expect("UTF-8").trim().to_owned()
    }

    /// Name of the node.
    pub(crate) fn node(&self) -> String {
        self.ask("sinfo", &["--noheader", "--format=%n"])
    }

    /// How many array jobs it has had.
    pub(crate) fn n_arrays(&self) -> usize {
        let said = self.ask("squeue", &["--noheader", "--states=all", "--array", "--format=%F"]);
        said.lines().collect::<BTreeSet<_>>().len()
    }

    /// Tasks in a state, as `ARRAY_INDEX`.
    pub(crate) fn tasks(&self, state: &str) -> Vec<String> {
        let said = self.ask(
            "squeue",
            &["--noheader", "--array", "--format=%F_%K", &format!("--states={state}")],
        );
        said.lines().map(str::to_owned).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let user = output("id", &["-un"]);
        self.ask("scancel", &["--signal=KILL", "--full", &format!("--user={user}")]);
        self.ask("scancel", &[&format!("--user={user}")]);
        if !std::thread::panicking() {
            until("an empty queue", || self.tasks("PENDING,RUNNING,COMPLETING").is_empty());
        }
        for daemon in self.daemons.iter_mut().rev().chain(&mut self.controller) {
            end(daemon);
        }
        if std::thread::panicking() {
            for name in ["slurmctld.log", "slurmd.log", "slurmctld.said", "slurmd.said"] {
                let text = fs::read_to_string(self.at(name)).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                println!("{name}:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
    }
}

/// Asks a daemon to end, and waits.
fn end(daemon: &mut Child) {
    let pid = i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw);
    let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
    let _ = daemon.wait();
}

/// Where a program is; daemons lie where not every user looks for programs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("starts");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

//! A local cluster of real processes, from `dev up` to the proof that nothing of it is left.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::amnesia_host::AmnesiaHost;
use super::process::{is_alive, kill, mounts_under, read_pid, wait_dead};
use super::programs::program;
use super::small_disks::SmallDisks;
use super::status::Status;
use super::wait::wait_for;

/// Longest time that `dev up` may take: six servers, an election, a mount, on a busy machine.
const UP: Duration = Duration::from_secs(90);
/// Longest time until a cluster is whole again after a restart.
const HEALTHY: Duration = Duration::from_secs(90);
/// Lines of each log that a failed test shows.
const LOG_LINES: usize = 25;

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Metadata servers.
    pub meta: usize,
    /// Chunk servers.
    pub chunk: usize,
    /// Replicas of each block.
    pub replicas: usize,
    /// Put the amnesia layer under the data folders of all servers.
    pub amnesia: bool,
    /// Give each chunk server a file system of so many MiB of its own.
    pub disk_mib: Option<u32>,
}

impl Shape {
    /// Three of everything.
    pub const STANDARD: Self = Self { meta: 3, chunk: 3, replicas: 3, amnesia: false, disk_mib: None };
}

/// A local cluster. Ended, and its files removed, when dropped.
pub struct DevCluster {
    folder: Option<tempfile::TempDir>,
    data: PathBuf,
    shape: Shape,
    mounts: RefCell<Vec<PathBuf>>,
    amnesia: Option<AmnesiaHost>,
    small_disks: Option<SmallDisks>,
}

/// A server that is started by one word to a process that waits for it.
pub struct PreparedStart {
    shell: Child,
    pid_file: PathBuf,
}

impl PreparedStart {
    /// Starts the server.
    pub fn go(mut self) {
        fs::write(&self.pid_file, format!("{}\n", self.shell.id())).expect("pid file");
        self.shell.stdin.take().expect("piped").write_all(b"go\n").expect("sh reads");
    }
}

impl DevCluster {
    /// Starts a cluster of the standard shape with one mount.
    pub fn start() -> Self {
        Self::with_shape(Shape::STANDARD)
    }

    /// Starts a cluster with one mount.
    pub fn with_shape(shape: Shape) -> Self {
        let folder = tempfile::Builder::new().prefix("cairn-cluster-").tempdir().expect("temporary folder");
        let path = folder.path().canonicalize().expect("temporary folder");
        let data = path.join("data");
        fs::create_dir_all(&data).expect("data folder");
        let mounts = RefCell::new(vec![path.join("mount1")]);
        let mut cluster = Self { folder: Some(folder), data, shape, mounts, amnesia: None, small_disks: None };
        if shape.amnesia {
            let names = cluster.servers();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            cluster.amnesia = Some(AmnesiaHost::start(&cluster.data, &path.join("backing"), &names));
        }
        if let Some(mib) = shape.disk_mib {
            let chunk: Vec<_> = cluster.servers().into_iter().filter(|name| name.starts_with("chunk")).collect();
            cluster.small_disks = Some(SmallDisks::mount(&cluster.data, &chunk, mib));
        }
        cluster.up();
        cluster
    }

    /// The cluster's folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder beside it, for the test's own files.
    pub fn outside(&self) -> PathBuf {
        let path = self.data.parent().expect("made inside of a folder").join("outside");
        fs::create_dir_all(&path).expect("folder");
        path
    }

    /// The mount point with this number, from 1.
    pub fn mount(&self, number: usize) -> PathBuf {
        self.mounts.borrow()[number - 1].clone()
    }

    /// The amnesia layer, if the shape has one.
    pub fn amnesia(&self) -> &AmnesiaHost {
        self.amnesia.as_ref().expect("the cluster was started with the amnesia layer")
    }

    /// Names of all servers: meta1…, chunk1….
    pub fn servers(&self) -> Vec<String> {
        let meta = (1..=self.shape.meta).map(|number| format!("meta{number}"));
        meta.chain((1..=self.shape.chunk).map(|number| format!("chunk{number}"))).collect()
    }

    /// Names of everything that runs: the servers and the mounts.
    pub fn everything(&self) -> Vec<String> {
        let mounts = (1..=self.mounts.borrow().len()).map(|number| format!("mount{number}"));
        self.servers().into_iter().chain(mounts).collect()
    }

    /// `cairnctl dev up`: starts whatever does not run, mounts included.
    pub fn up(&self) {
        let shape = self.shape;
        let output = self.cairnctl(
            UP,
            &["up", "--meta", &shape.meta.to_string(), "--chunk", &shape.chunk.to_string()],
            &["--replicas".into(), shape.replicas.to_string(), "--mount".into(), path_text(&self.mount(1))],
        );
        self.expect_success("dev up", &output);
    }

    /// `cairnctl dev down`.
    pub fn down(&self) {
        let output = self.cairnctl(UP, &["down"], &[]);
        self.expect_success("dev down", &output);
        for name in self.everything() {
            assert_eq!(self.pid(&name), None, "{name} still runs after dev down");
        }
    }

    /// `cairnctl dev mount`: one more mount; answers its path.
    pub fn add_mount(&self) -> PathBuf {
        let number = self.mounts.borrow().len() + 1;
        let path = self.data.parent().expect("made inside of a folder").join(format!("mount{number}"));
        let output = self.cairnctl(UP, &["mount", "--mount"], &[path_text(&path)]);
        self.expect_success("dev mount", &output);
        self.mounts.borrow_mut().push(path.clone());
        path
    }

    /// Any `cairnctl dev` command of this cluster, with a bound.
    pub fn cairnctl(&self, bound: Duration, arguments: &[&str], more: &[String]) -> Output {
        Command::new("timeout")
            .arg("--kill-after=5")
            .arg(bound.as_secs().to_string())
            .arg(program("cairnctl"))
            .arg("dev")
            .arg(arguments[0])
            .arg("--data")
            .arg(&self.data)
            .args(&arguments[1..])
            .args(more)
            .output()
            .expect("timeout(1) starts")
    }

    /// `cairnctl dev status --json`; None if it does not answer properly just now.
    pub fn try_status(&self) -> Option<Status> {
        let output = self.cairnctl(Duration::from_secs(20), &["status", "--json"], &[]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// `cairnctl dev status --json`.
    pub fn status(&self) -> Status {
        wait_for("dev status --json", Duration::from_secs(40), || self.try_status())
    }

    /// Name of the leader, waited for.
    pub fn leader(&self) -> String {
        wait_for("a leader", Duration::from_secs(30), || self.try_status().and_then(|status| status.leader))
    }

    /// Name of a metadata server that does not lead.
    pub fn follower(&self) -> String {
        let leader = self.leader();
        self.servers().into_iter().find(|name| name.starts_with("meta") && *name != leader).expect("more than one")
    }

    /// Waits until everything is up and every block has all its replicas.
    pub fn wait_healthy(&self) {
        let start = Instant::now();
        loop {
            let status = self.try_status();
            if status.as_ref().is_some_and(Status::is_healthy) {
                return;
            }
            if start.elapsed() > HEALTHY {
                self.show_logs();
                panic!("not healthy after {HEALTHY:?}: {status:?}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Process of a server or mount, if it runs.
    pub fn pid(&self, name: &str) -> Option<i32> {
        read_pid(&self.data.join("run").join(format!("{name}.pid")), &self.data)
    }

    /// kill -9; returns when the process is gone.
    pub fn kill9(&self, name: &str) {
        let pid = self.pid(name).unwrap_or_else(|| panic!("{name} does not run"));
        kill(pid);
        wait_dead(pid);
    }

    /// kill -9 of everything, as near to one instant as can be, in the order given.
    pub fn kill9_all(&self, names: &[String]) {
        let pids: Vec<i32> = names.iter().filter_map(|name| self.pid(name)).collect();
        pids.iter().for_each(|pid| kill(*pid));
        pids.iter().for_each(|pid| wait_dead(*pid));
    }

    /// Gets the start of one server ready, and only of that one (`dev up` starts all): nothing more
    /// is forked for it later, when that might have to wait for a mount.
    pub fn prepare_start(&self, name: &str) -> PreparedStart {
        let program = program(if name.starts_with("meta") { "cairn-meta" } else { "cairn-chunk" });
        let log = File::options().append(true).open(self.data.join("log").join(format!("{name}.log"))).expect("log");
        let shell = Command::new("sh")
            .args(["-c", "read go && exec \"$0\" --config \"$1\" </dev/null"])
            .arg(program)
            .arg(self.config(name))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("sh starts");
        PreparedStart { shell, pid_file: self.data.join("run").join(format!("{name}.pid")) }
    }

    /// The configuration file of a server, of a mount, or of the administrator (`admin`).
    pub fn config(&self, name: &str) -> PathBuf {
        self.data.join("config").join(format!("{name}.toml"))
    }

    /// The log of a server or mount.
    pub fn log(&self, name: &str) -> String {
        let path = self.data.join("log").join(format!("{name}.log"));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Prints the end of every log.
    pub fn show_logs(&self) {
        for name in self.everything() {
            let log = self.log(&name);
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- end of {name}.log");
            lines[lines.len().saturating_sub(LOG_LINES)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }

    fn expect_success(&self, what: &str, output: &Output) {
        if !output.status.success() {
            self.show_logs();
            let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            panic!("{what} ended with {}:\n{out}{error}", output.status);
        }
    }

    /// Takes everything away, politely or not, and answers what was left after the polite attempt.
    fn clean_up(&mut self) -> Vec<String> {
        self.cairnctl(Duration::from_secs(60), &["down"], &[]);
        let mut left = Vec::new();
        let folder = self.data.parent().expect("made inside of a folder").to_owned();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let ours = command.contains(&format!("{}/", folder.display())) && !command.contains("cairn-amnesia");
            if ours && is_alive(pid) && pid != std::process::id() as i32 {
                left.push(command);
                kill(pid);
                wait_dead(pid);
            }
        }
        self.amnesia = None;
        self.small_disks = None;
        for point in mounts_under(&folder) {
            left.push(format!("mount {point}"));
            let _ = unmount(point.as_str(), UnmountFlags::DETACH);
        }
        left
    }
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        let left = self.clean_up();
        if std::env::var_os("CAIRN_KEEP").is_some()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("kept: {}", folder.keep().display());
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "dev down left: {left:?}");
        }
    }
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("paths of tests are UTF-8").to_owned()
}

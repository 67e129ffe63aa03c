//! The processes of a local cluster: started detached in a session of their own, known by their pid
//! file, and never mistaken for a stranger that got the same number: a pid counts only while the
//! process's command line names this cluster's configuration file.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cairn_common::durable_file;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit, setsid};

use super::layout::Layout;
use crate::error::{ControlError, Failure, FileContext};

/// A process that was asked to stop has this long before it is killed.
pub(crate) const STOP_WAIT: Duration = Duration::from_secs(15);
/// A killed process is gone after this long, or the kernel holds it.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// Lines of a log that an error message shows.
const LAST_LINES: usize = 12;
/// How much of a log is read for them, in bytes.
const LAST_BYTES: u64 = 16 << 10;

/// A program of Cairn, found beside this one.
pub(crate) fn program(name: &str) -> Result<PathBuf, ControlError> {
    let own = std::env::current_exe().doing("find", "/proc/self/exe")?;
    let path = own.with_file_name(name);
    if path.is_file() { Ok(path) } else { Err(ControlError::NoProgram { path }) }
}

/// Raises the limit of open files to what is allowed; processes started later inherit it.
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A lower limit than wished is no reason not to start.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Starts a process that outlives this one, with output to its log. Returns its pid.
pub(crate) fn start(layout: &Layout, name: &str, program: &Path, arguments: &[&Path]) -> Result<u32, ControlError> {
    let log_path = layout.log(name);
    let log = File::options().create(true).append(true).open(&log_path).doing("open", &log_path)?;
    let second = log.try_clone().doing("open", &log_path)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(layout.config(name)).args(arguments);
    // Backtraces of errors (not of panics) would push the error itself out of the shown end of the log.
    command.env("RUST_LIB_BACKTRACE", "0");
    command.current_dir("/").stdin(Stdio::null()).stdout(log).stderr(second);
    // SAFETY: setsid is async-signal-safe and touches no memory of this process.
    unsafe {
        command.pre_exec(|| setsid().map(|_| ()).map_err(io::Error::from));
    }
    let child = command.spawn().map_err(|source| ControlError::Spawn {
        name: name.to_owned(),
        program: program.to_owned(),
        source,
    })?;
    let pid_file = layout.pid_file(name);
    durable_file::write(&pid_file, format!("{}\n", child.id()).as_bytes())?;
    Ok(child.id())
}

/// The pid of a running process, or None. A pid file that says otherwise is stale.
pub(crate) fn running(layout: &Layout, name: &str) -> Option<u32> {
    let pid: u32 = fs::read_to_string(layout.pid_file(name)).ok()?.trim().parse().ok()?;
    is_ours(layout, name, pid).then_some(pid)
}

/// Whether that pid is this process of this cluster. A zombie has no command line, so it is not.
fn is_ours(layout: &Layout, name: &str, pid: u32) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let config = layout.config(name);
    line.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes())
}

/// Asks running processes to stop, waits, and kills what is left. Returns the names that had to be
/// killed. Their pid files are removed.
pub(crate) fn stop(layout: &Layout, names: &[String], wait: Duration) -> Result<Vec<String>, ControlError> {
    let targets: Vec<(&String, u32)> = names.iter().filter_map(|name| Some((name, running(layout, name)?))).collect();
    for (_, pid) in &targets {
        signal(*pid, Signal::TERM);
        // A stopped process sees the signal only when it goes on.
        signal(*pid, Signal::CONT);
    }
    let left = wait_gone(layout, &targets, wait);
    for (_, pid) in &left {
        signal(*pid, Signal::KILL);
    }
    if let Some((name, pid)) = wait_gone(layout, &left, KILL_WAIT).first() {
        return Err(ControlError::Unkillable { name: (*name).clone(), pid: *pid });
    }
    for name in names {
        let _ = fs::remove_file(layout.pid_file(name));
    }
    Ok(left.into_iter().map(|(name, _)| name.clone()).collect())
}

/// Waits until the processes are gone; returns those that are not.
fn wait_gone<'a>(layout: &Layout, targets: &[(&'a String, u32)], wait: Duration) -> Vec<(&'a String, u32)> {
    let start = Instant::now();
    loop {
        let left: Vec<_> = targets.iter().copied().filter(|(name, pid)| is_ours(layout, name, *pid)).collect();
        if left.is_empty() || start.elapsed() > wait {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(pid: u32, signal: Signal) {
    // It may have ended by itself meanwhile.
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// A failure of that process with the end of its log.
pub(crate) fn failure(layout: &Layout, name: &str, reason: String) -> Failure {
    let log = layout.log(name);
    let last_lines = last_lines(&log).unwrap_or_default();
    Failure { name: name.to_owned(), reason, log: Some(log), last_lines }
}

fn last_lines(log: &Path) -> io::Result<Vec<String>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        (dir, layout)
    }

    /// A shell takes the place of a server: `sh -c 'script' --config FILE` keeps the arguments.
    fn start_script(layout: &Layout, name: &str, script: &str) -> std::process::Child {
        let child = Command::new("sh")
            .args(["-c", script, "--config"])
            .arg(layout.config(name))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        fs::write(layout.pid_file(name), format!("{}\n", child.id())).unwrap();
        child
    }

    #[test]
    fn a_reused_pid_is_not_ours() {
        let (_dir, layout) = layout();
        fs::write(layout.pid_file("meta1"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(running(&layout, "meta1"), None);
        let killed = stop(&layout, &["meta1".to_owned()], STOP_WAIT).unwrap();
        assert!(killed.is_empty(), "this test process would have been the victim");
        assert!(!layout.pid_file("meta1").exists());
    }

    #[test]
    fn term_stops_and_kill_follows() {
        let (_dir, layout) = layout();
        let mut soft = start_script(&layout, "chunk1", "while :; do sleep 0.1; done");
        let mut hard = start_script(&layout, "chunk2", "trap '' TERM; echo ready; while :; do sleep 0.1; done");
        let mut ready = [0; 6];
        io::Read::read_exact(hard.stdout.as_mut().unwrap(), &mut ready).unwrap();
        assert_eq!(running(&layout, "chunk1"), Some(soft.id()));
        let names = ["chunk1".to_owned(), "chunk2".to_owned()];
        assert_eq!(stop(&layout, &names, Duration::from_millis(300)).unwrap(), ["chunk2"]);
        assert_eq!((running(&layout, "chunk1"), running(&layout, "chunk2")), (None, None));
        soft.wait().unwrap();
        hard.wait().unwrap();
    }

    #[test]
    fn failures_show_the_end_of_the_log() {
        let (_dir, layout) = layout();
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        fs::write(layout.log("meta1"), text).unwrap();
        let shown = failure(&layout, "meta1", "ended".to_owned()).to_string();
        assert!(shown.contains("line 99") && shown.contains("line 88") && !shown.contains("line 87"), "{shown}");
    }
}

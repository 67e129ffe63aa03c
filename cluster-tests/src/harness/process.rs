//! Processes of a cluster, by number: whether they live, and their end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::wait_for;

/// Longest time that a killed process takes to go.
const DEATH: Duration = Duration::from_secs(20);

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the command's name, which is in parentheses and may hold any character.
    !stat.rsplit_once(')').is_some_and(|(_, rest)| matches!(rest.trim_start().as_bytes().first(), Some(b'Z' | b'X')))
}

/// The number in a pid file, if that process lives and has `folder` on its command line: numbers
/// are reused.
pub(super) fn read_pid(file: &Path, folder: &Path) -> Option<i32> {
    let pid = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = String::from_utf8_lossy(&command).contains(&*folder.to_string_lossy());
    (ours && is_alive(pid)).then_some(pid)
}

/// Sends SIGKILL; a process that is gone already is fine.
pub(super) fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

/// A process that is stopped (SIGSTOP), until this is dropped.
#[derive(Debug)]
pub struct Stopped(i32);

impl Stopped {
    /// Stops a process.
    pub fn new(pid: i32) -> Self {
        signal(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until a process is gone.
pub(super) fn wait_dead(pid: i32) {
    wait_for(&format!("the end of process {pid}"), DEATH, || (!is_alive(pid)).then_some(()));
}

/// Mount points under a folder, innermost first.
pub(super) fn mounts_under(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let prefix = format!("{}/", folder.display());
    let mut points: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with(&prefix))
        .map(str::to_owned)
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    points
}

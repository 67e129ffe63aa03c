//! One simulated machine: a runtime of its own with paused time, stepped by the world. A crash drops
//! the runtime with all its tasks; a stopped machine (SIGSTOP) is not stepped, and finds its clock far
//! ahead afterwards; a machine may run faster or slower than the others.

use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;

use crate::process;

/// Parts per million.
const MILLION: i64 = 1_000_000;

/// A machine and the process on it.
pub(crate) struct Machine {
    process: Option<Process>,
    /// How much faster than true its clock runs, in parts per million.
    drift_ppm: i64,
    /// How far its wall clock is off, in nanoseconds.
    pub(crate) wall_offset: i64,
    stopped: bool,
}

struct Process {
    runtime: Runtime,
    /// The machine's time when the process was started, in nanoseconds.
    born: u64,
    /// The runtime's time at that moment.
    began: Instant,
}

impl Machine {
    pub(crate) fn new(drift_ppm: i64, wall_offset: i64) -> Self {
        Self { process: None, drift_ppm, wall_offset, stopped: false }
    }

    /// The machine's time, in nanoseconds.
    fn local(&self, world: u64) -> u64 {
        (i128::from(world) * i128::from(MILLION + self.drift_ppm) / i128::from(MILLION)) as u64
    }

    /// Starts a process without tasks.
    pub(crate) fn boot(&mut self, world: u64) -> Handle {
        let born = self.local(world);
        self.stopped = false;
        process::set_time(born, self.wall_offset);
        // Fails only if the operating system refuses it memory.
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime starts");
        let began = runtime.block_on(async { Instant::now() });
        let handle = runtime.handle().clone();
        self.process = Some(Process { runtime, born, began });
        handle
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self, world: u64) {
        process::set_time(self.local(world), self.wall_offset);
        self.process = None;
        self.stopped = false;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops the process: it does not run until [`Self::resume`].
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Runs the process until its clock shows the world's time `until` (or up to a millisecond more: the
    /// granularity of timers).
    pub(crate) fn step(&mut self, until: u64) {
        let until = self.local(until);
        let Some(Process { runtime, born, began }) = &self.process else { return };
        if self.stopped {
            return;
        }
        let (born, began, wall_offset) = (*born, *began, self.wall_offset);
        runtime.block_on(async {
            process::set_running_time(born, wall_offset, began);
            tokio::time::sleep_until(began + Duration::from_nanos(until.saturating_sub(born))).await;
        });
        process::set_time(until, wall_offset);
    }

    /// Lets a stopped process go on: its clock jumps to now, and all its timers of the time between
    /// fire at once.
    pub(crate) fn resume(&mut self, world: u64) {
        self.stopped = false;
        let now = self.local(world);
        let Some(Process { runtime, born, began }) = &self.process else { return };
        let (born, began, wall_offset) = (*born, *began, self.wall_offset);
        runtime.block_on(async {
            process::set_running_time(born, wall_offset, began);
            let passed = Instant::now() - began;
            tokio::time::advance(Duration::from_nanos(now - born).saturating_sub(passed)).await;
        });
        process::set_time(now, wall_offset);
    }
}

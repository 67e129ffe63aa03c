//! The background thread of a disk: makes the index durable now and then, and scrubs: reads every
//! record slowly, so that rot is found before the last good replica is gone. It never writes to a
//! segment.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::scrub::Scrub;
use super::shared::Shared;

/// The thread looks for work this often.
const TICK: Duration = Duration::from_millis(250);

/// Handle to the thread; dropping it ends the thread.
pub(super) struct Maintenance {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits; true when the thread must end.
    fn wait(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, time);
        }
        *stopped
    }
}

impl Maintenance {
    /// Starts the thread.
    pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let stop_of_thread = stop.clone();
        let thread =
            std::thread::Builder::new().name("maintenance".to_owned()).spawn(move || run(&shared, &stop_of_thread))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        *self.stop.stopped.lock() = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of this thread costs scrubbing, nothing that was acknowledged.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, stop: &Stop) {
    let mut scrub = Scrub::new(shared);
    let mut flushed = Instant::now();
    let mut ticked = Instant::now();
    while !stop.wait(TICK) {
        if flushed.elapsed() >= shared.options.index_flush_interval && shared.take_dirty() {
            if let Err(error) = shared.index.flush() {
                shared.health.fail(format!("flush of the index failed: {error}"));
            }
            flushed = Instant::now();
        }
        let elapsed = ticked.elapsed().min(Duration::from_secs(1));
        ticked = Instant::now();
        let budget = shared.options.scrub_bytes_per_second as f64 * elapsed.as_secs_f64();
        if budget >= 1.0 && shared.health.failure().is_none() {
            scrub.run(shared, budget as u64);
        }
    }
}

//! The writer's thread and its queue. Whatever waits when the thread is free goes into one group
//! commit; while it syncs, the next group gathers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use cairn_common::protocol::chunk::PutOutcome;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::committer::Committer;
use super::options::Threads;
use super::prepared::PreparedBlock;
use super::shared::Shared;

/// Most bytes of blocks in one group commit.
const MAX_COMMIT_BYTES: usize = 64 << 20;

/// Blocks of one request, and who waits for them.
struct Job {
    blocks: Vec<PreparedBlock>,
    done: oneshot::Sender<Vec<PutOutcome>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// Handle to the writer's thread. When it is dropped, what is queued is written and the thread ends.
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    /// Without a thread: commits where a put is called.
    here: Option<Mutex<Committer>>,
}

impl Writer {
    /// Starts the thread, if there is to be one.
    pub(super) fn start(mut committer: Committer, shared: Arc<Shared>) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        if shared.options.threads == Threads::Callers {
            return Ok(Self { queue, thread: None, here: Some(Mutex::new(committer)) });
        }
        let queue_of_thread = queue.clone();
        let thread = std::thread::Builder::new().name("group-commit".to_owned()).spawn(move || {
            let guard = FailOnPanic { shared, queue: queue_of_thread.clone() };
            while let Some(jobs) = queue_of_thread.take() {
                let blocks: Vec<&[PreparedBlock]> = jobs.iter().map(|job| job.blocks.as_slice()).collect();
                let outcomes = committer.commit(&blocks);
                for (job, outcomes) in jobs.into_iter().zip(outcomes) {
                    // Nobody waits any more if the caller ran out of time; the blocks are stored all the same.
                    let _ = job.done.send(outcomes);
                }
            }
            drop(guard);
        })?;
        Ok(Self { queue, thread: Some(thread), here: None })
    }

    /// Queues blocks. The receiver gets one outcome a block; it fails if the thread is gone.
    pub(super) fn put(&self, blocks: Vec<PreparedBlock>) -> oneshot::Receiver<Vec<PutOutcome>> {
        let (done, receiver) = oneshot::channel();
        if let Some(committer) = &self.here {
            let outcomes = committer.lock().commit(&[&blocks]);
            let _ = done.send(outcomes.into_iter().next().unwrap_or_default());
            return receiver;
        }
        let mut state = self.queue.state.lock();
        if !state.closed {
            state.jobs.push_back(Job { blocks, done });
            self.queue.filled.notify_one();
        }
        receiver
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic was already noted by its guard.
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Waits for jobs; None when the queue is closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
        let mut state = self.state.lock();
        while state.jobs.is_empty() && !state.closed {
            self.filled.wait(&mut state);
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(job) = state.jobs.front() {
            bytes += job.blocks.iter().map(|block| block.data().len()).sum::<usize>();
            if !taken.is_empty() && bytes > MAX_COMMIT_BYTES {
                break;
            }
            taken.extend(state.jobs.pop_front());
        }
        (!taken.is_empty()).then_some(taken)
    }
}

/// Fails the disk when the writer's thread panics, so that nobody waits for a thread that is gone.
struct FailOnPanic {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.health.fail("the writer's thread panicked".to_owned());
            let mut state = self.queue.state.lock();
            state.closed = true;
            state.jobs.clear();
        }
    }
}

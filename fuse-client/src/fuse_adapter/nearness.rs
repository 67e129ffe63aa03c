//! Keeps the threads that answer the kernel on the processor of the program that asks, while one program
//! sends many small requests one after another. It waits for each answer, so nothing is lost by sharing its
//! processor; but an answer from another one costs two wake-ups across processors, which is more than most
//! answers do. The scheduler prefers an idle processor, and the kernel's FUSE does not tell it otherwise.
//!
//! A hint only: whoever asks is answered, wherever the threads are.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};

use super::caller_task::sees_callers;

/// How often it is looked who asks, while anybody does.
const INTERVAL: Duration = Duration::from_millis(4);
/// With nobody asking, how often it is looked whether the mount is still there.
const IDLE: Duration = Duration::from_secs(1);
/// So few requests in an interval are not worth a move.
const FEW: u32 = 16;
/// One in so many may be somebody else's, or large.
const OTHERS: u32 = 16;
/// To copy so many bytes is worth a processor of its own.
const LARGE_BYTES: u32 = 32 << 10;

/// Who has asked in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Requests.
    requests: u32,
    /// Those of them that moved many bytes.
    large: u32,
    /// How often another thread asked than before.
    changes: u32,
    /// The thread that asked last, 0 if it cannot be seen.
    last: u32,
}

impl Seen {
    /// The thread whose processor is the place to be, after one that asked last in the interval before.
    fn follow(&self, before: u32) -> Option<u32> {
        let others = self.requests / OTHERS;
        let is_one = self.last != 0 && self.last == before && self.changes <= others;
        (is_one && self.requests >= FEW && self.large <= others).then_some(self.last)
    }
}

/// Requests as they come, and the threads that answer them.
#[derive(Debug, Default)]
pub(super) struct Nearness {
    requests: AtomicU32,
    large: AtomicU32,
    changes: AtomicU32,
    last: AtomicU32,
    /// The thread that looks waits until somebody asks.
    sleeps: AtomicBool,
    looker: Mutex<Option<Thread>>,
    answering: Mutex<Vec<Pid>>,
}

thread_local! {
    /// Whether this thread is among those that answer.
    static KNOWN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl Nearness {
    /// Begins to look. It ends when the last reference is gone.
    pub(super) fn start() -> Arc<Self> {
        let nearness = Arc::new(Self::default());
        let processors = sched_getaffinity(None).unwrap_or_default();
        if processors.count() > 1 && sees_callers() {
            let weak = Arc::downgrade(&nearness);
            let spawned =
                std::thread::Builder::new().name("nearness".to_owned()).spawn(move || look(&weak, processors));
            match spawned {
                Ok(thread) => *nearness.looker.lock() = Some(thread.thread().clone()),
                Err(error) => tracing::warn!(%error, "no thread: small requests are answered as the scheduler has it"),
            }
        }
        nearness
    }

    /// A request of a thread, that moves so many bytes. To be called by the thread that answers it.
    pub(super) fn asked(&self, thread: u32, bytes: u32) {
        if !KNOWN.replace(true) {
            self.answering.lock().push(gettid());
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        if bytes >= LARGE_BYTES {
            self.large.fetch_add(1, Ordering::Relaxed);
        }
        if self.last.load(Ordering::Relaxed) != thread {
            self.last.store(thread, Ordering::Relaxed);
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        if self.sleeps.load(Ordering::Relaxed)
            && self.sleeps.swap(false, Ordering::Relaxed)
            && let Some(looker) = &*self.looker.lock()
        {
            looker.unpark();
        }
    }

    fn take(&self) -> Seen {
        Seen {
            requests: self.requests.swap(0, Ordering::Relaxed),
            large: self.large.swap(0, Ordering::Relaxed),
            changes: self.changes.swap(0, Ordering::Relaxed),
            last: self.last.load(Ordering::Relaxed),
        }
    }

    fn run_on(&self, processors: &CpuSet) {
        for thread in self.answering.lock().iter() {
            // It may have ended; it is only a hint.
            let _ = sched_setaffinity(Some(*thread), processors);
        }
    }
}

fn look(nearness: &Weak<Nearness>, all: CpuSet) {
    let (mut before, mut at) = (0, None);
    while let Some(nearness) = nearness.upgrade() {
        let seen = nearness.take();
        let processor = seen.follow(before).and_then(processor_of).filter(|processor| all.is_set(*processor));
        before = seen.last;
        if processor != at {
            at = processor;
            match processor {
                Some(processor) => {
                    let mut only = CpuSet::new();
                    only.set(processor);
                    nearness.run_on(&only);
                }
                None => nearness.run_on(&all),
            }
        }
        let is_idle = seen.requests == 0;
        nearness.sleeps.store(is_idle, Ordering::Relaxed);
        drop(nearness);
        if is_idle {
            std::thread::park_timeout(IDLE);
        } else {
            std::thread::sleep(INTERVAL);
        }
    }
}

/// The processor on which a thread ran last.
fn processor_of(thread: u32) -> Option<usize> {
    processor_in(&fs::read_to_string(format!("/proc/{thread}/stat")).ok()?)
}

/// The 39th field of proc_pid_stat(5). The second is a name in brackets and may have any byte in it.
fn processor_in(stat: &str) -> Option<usize> {
    stat.rsplit_once(") ")?.1.split(' ').nth(39 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_asks_for_little_again_and_again_is_followed() {
        let alone = Seen { requests: 500, large: 3, changes: 5, last: 7 };
        assert_eq!(alone.follow(7), Some(7));
        assert_eq!(alone.follow(8), None, "it has only begun, or a new one comes every moment");
        assert_eq!(Seen { requests: 10, changes: 0, ..alone }.follow(7), None, "hardly any");
        assert_eq!(Seen { changes: 250, ..alone }.follow(7), None, "two in turn: each has a processor");
        assert_eq!(Seen { large: 400, ..alone }.follow(7), None, "copying is better done beside the reader");
        assert_eq!(Seen { last: 0, ..alone }.follow(0), None, "of another process namespace");
    }

    #[test]
    fn the_processor_is_found_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("17 (a) b (c) {}", fields.join(" "));
        assert_eq!(processor_in(&stat), Some(39));
        assert_eq!(processor_in("17 (short) S 1"), None);
        assert!(processor_of(std::process::id()).is_some());
    }

    #[test]
    fn threads_that_answer_go_where_the_one_who_asks_is_and_are_let_go() {
        let nearness = Nearness::start();
        let before = sched_getaffinity(None).unwrap();
        if before.count() < 2 {
            return;
        }
        let me = gettid().as_raw_nonzero().get() as u32;
        let begun = std::time::Instant::now();
        let patience = Duration::from_secs(10);
        while sched_getaffinity(None).unwrap().count() != 1 {
            assert!(begun.elapsed() < patience, "it is not followed");
            nearness.asked(me, 0);
            std::thread::sleep(Duration::from_micros(20));
        }
        while sched_getaffinity(None).unwrap() != before {
            assert!(begun.elapsed() < patience, "it is not let go");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

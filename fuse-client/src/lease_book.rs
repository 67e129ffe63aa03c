//! The rules of leases with a lock and a clock around them, for the threads and tasks of a mount. Its
//! lock may be taken while a file's lock is held, never the other way round; nothing waits under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_common::client::{Answer, LeaseClock, LeaseTime};
use cairn_common::protocol::metadata::Query;
use parking_lot::{Mutex, MutexGuard};

use crate::lease::{CacheLimits, Fact, LeaseCache, Question};

/// What a mount remembers, and the time.
#[derive(Debug)]
pub struct LeaseBook {
    cache: Mutex<LeaseCache>,
    clock: Arc<LeaseClock>,
    /// Requests answered from memory, and those that had to be asked.
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A question on its way: given up when dropped.
pub struct Asking<'a> {
    book: &'a LeaseBook,
    question: Option<Question>,
}

impl LeaseBook {
    /// An empty book.
    pub fn new(clock: Arc<LeaseClock>, limits: CacheLimits) -> Self {
        let cache = Mutex::new(LeaseCache::new(limits));
        Self { cache, clock, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// What is remembered.
    pub fn lock(&self) -> MutexGuard<'_, LeaseCache> {
        self.cache.lock()
    }

    /// Generation, horizons and time.
    pub fn time(&self) -> LeaseTime {
        self.clock.read()
    }

    /// The clock behind [`Self::time`].
    pub fn clock(&self) -> &LeaseClock {
        &self.clock
    }

    /// What `tell` finds in memory, if it may be told.
    pub fn told<T>(&self, tell: impl FnOnce(&mut LeaseCache, &LeaseTime) -> Option<T>) -> Option<T> {
        // The time is read under the lock: what a recall dropped is not told after it.
        let mut cache = self.cache.lock();
        let time = self.clock.read();
        tell(&mut cache, &time)
    }

    /// Counts a request that was answered from memory.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts answers from memory.
    pub fn hits(&self, count: u64) {
        self.hits.fetch_add(count, Ordering::Relaxed);
    }

    /// Requests answered from memory, and questions sent.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Before a question is sent.
    pub fn ask(&self) -> Asking<'_> {
        self.misses.fetch_add(1, Ordering::Relaxed);
        Asking { book: self, question: Some(self.cache.lock().ask()) }
    }
}

impl Asking<'_> {
    /// Remembers what the answer tells.
    pub fn answered(mut self, query: &Query, answer: &Answer) {
        if let Some(question) = self.question.take() {
            let facts = Fact::of(query, &answer.result);
            self.book.lock().answered(question, answer.grant.as_ref(), answer.sequence, facts);
        }
    }

    /// Takes the question out, for an answer of another kind.
    pub fn into_question(mut self) -> Option<Question> {
        self.question.take()
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(question) = self.question.take() {
            self.book.lock().abandoned(question);
        }
    }
}

//! The trace of a run: every event goes into one hash, so that two runs of a seed can be compared; and,
//! on demand, to standard error for people.

use std::hash::{DefaultHasher, Hasher};

/// Hash and number of events.
pub(crate) struct Trace {
    hasher: DefaultHasher,
    events: u64,
    tell: bool,
}

impl Trace {
    pub(crate) fn new(tell: bool) -> Self {
        Self { hasher: DefaultHasher::new(), events: 0, tell }
    }

    /// Takes in an event: what, and numbers that identify it.
    pub(crate) fn event(&mut self, what: &str, numbers: &[u64], bytes: &[u8]) {
        self.events += 1;
        self.hasher.write(what.as_bytes());
        numbers.iter().for_each(|number| self.hasher.write_u64(*number));
        self.hasher.write(bytes);
        if self.tell {
            eprintln!("{what} {numbers:?} {:016x} {} bytes", self.hasher.finish(), bytes.len());
        }
    }

    /// The hash so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many events.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}

//! What one thread calls and what comes back, in the order of one clock that all threads share. Each
//! thread writes into its own list: recording must not put the calls one after another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_cluster_tests::checker::{Call, Life, Operation, Reply, Value};
use rustix::io::Errno;

/// Moments between two ticks: as many facts as one call may tell.
const FACTS: u64 = 256;

/// What calls on names may be refused with. ESTALE: through the handle of a directory that is gone.
const REFUSALS: [Errno; 6] = [Errno::NOENT, Errno::STALE, Errno::EXIST, Errno::NOTEMPTY, Errno::ISDIR, Errno::NOTDIR];

/// The order of all begins and ends.
#[derive(Default)]
pub(super) struct Clock {
    ticks: AtomicU64,
    /// Calls that run, of each mount.
    running: [AtomicU64; 2],
}

impl Clock {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst) * FACTS
    }
}

/// A call, from before it was made until after it returned.
#[derive(Clone, Copy)]
pub(super) struct Span {
    begin: u64,
    end: u64,
}

/// What one thread has seen.
pub(super) struct Recorder<'a> {
    clock: &'a Clock,
    life: Life,
    facts: u64,
    pub(super) seen: Seen,
}

/// The same, when the thread is done.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) operations: Vec<Operation>,
    /// Reads that Linux may have answered from its pages.
    pub(super) through_pages: Vec<Operation>,
    /// What must never be, and is no reply of the model.
    pub(super) broken: Vec<String>,
    pub(super) kinds: BTreeMap<&'static str, Kind>,
    /// Calls without a definite outcome.
    pub(super) unknown: u64,
    /// Calls that began while another one ran: anywhere, on the other mount.
    pub(super) beside: [u64; 2],
    /// Calls that found no directory by its name for reasons of Linux's own: see [`names_folder`].
    pub(super) stale: u64,
    /// Reads that ended at a size of before: not judged.
    pub(super) cut: u64,
    /// The longest call.
    pub(super) longest: (Duration, &'static str),
}

/// Calls of one kind.
#[derive(Clone, Copy, Default)]
pub(super) struct Kind {
    pub(super) done: u64,
    pub(super) refused: u64,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(clock: &'a Clock, life: Life) -> Self {
        Self { clock, life, facts: 0, seen: Seen::default() }
    }

    /// Makes a call.
    pub(super) fn call<T>(
        &mut self,
        kind: &'static str,
        act: impl FnOnce() -> Result<T, Errno>,
    ) -> (Result<T, Errno>, Span) {
        let mount = self.life.client as usize;
        let begin = self.clock.tick();
        let before = [0, 1].map(|mount: usize| self.clock.running[mount].load(Ordering::Relaxed));
        self.clock.running[mount].fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let result = act();
        let took = start.elapsed();
        self.clock.running[mount].fetch_sub(1, Ordering::Relaxed);
        let end = self.clock.tick();
        self.seen.beside[0] += u64::from(before != [0, 0]);
        self.seen.beside[1] += u64::from(before[1 - mount] != 0);
        self.seen.longest = self.seen.longest.max((took, kind));
        let count = self.seen.kinds.entry(kind).or_default();
        match &result {
            Ok(_) => count.done += 1,
            Err(error) if is_unknown(*error) => self.seen.unknown += 1,
            Err(_) => count.refused += 1,
        }
        (result, Span { begin, end })
    }

    /// What a call did or told. One call may tell several facts, each with its own moment within it.
    pub(super) fn fact(&mut self, span: Span, call: Call, reply: Reply) {
        if reply == stale() && names_folder(&call) {
            self.seen.stale += 1;
            return;
        }
        // Facts of one thread never overlap those of its next call: their order within a tick is free.
        self.facts = (self.facts + 1) % FACTS;
        let end = if reply == Reply::Unknown { u64::MAX } else { span.end + self.facts };
        let begin = span.begin + self.facts;
        self.seen.operations.push(Operation { life: self.life, call, reply, begin, end });
    }

    /// What a read saw that Linux may have answered from its pages.
    pub(super) fn fact_through_pages(&mut self, span: Span, call: Call, reply: Reply) {
        self.fact(span, call, reply);
        self.seen.through_pages.extend(self.seen.operations.pop());
    }

    /// The fact of a call that tells nothing but that it was done.
    pub(super) fn done<T>(&mut self, span: Span, call: Call, result: &Result<T, Errno>) {
        let reply = match result {
            Ok(_) => Reply::Done,
            Err(error) => self.failure(&call, *error),
        };
        self.fact(span, call, reply);
    }

    /// What a failure says: nothing was changed, or nothing is known.
    pub(super) fn failure(&mut self, call: &Call, error: Errno) -> Reply {
        if is_unknown(error) {
            return Reply::Unknown;
        }
        if !REFUSALS.contains(&error) || call.file().is_some() {
            self.broken(format!("{call:?} failed with {error}"));
        }
        Reply::Refused(error.to_string())
    }

    pub(super) fn broken(&mut self, what: String) {
        self.seen.broken.push(format!("mount {}: {what}", self.life.client + 1));
    }
}

/// Whether the call may have had its effect, or may still have it.
pub(super) fn is_unknown(error: Errno) -> bool {
    [Errno::TIMEDOUT, Errno::IO, Errno::INTR].contains(&error)
}

/// The same times without overlaps, in order.
fn merge(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (begin, end) in spans {
        match merged.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    merged
}

fn stale() -> Reply {
    Reply::Refused(Errno::STALE.to_string())
}

/// Whether a call looks up the name of a directory. When another mount has moved a directory that Linux
/// knows by its old name, it takes it to the new one at the next lookup, for which it needs the lock of
/// renames and that of the old parent. If another call holds one of them it does not wait but fails with
/// ESTALE (`__d_unalias` in fs/dcache.c), on every file system that is changed elsewhere.
fn names_folder(call: &Call) -> bool {
    let is_folder = |name: &String| !name.starts_with('f');
    match call {
        Call::MakeDirectory { name, .. }
        | Call::RemoveDirectory { name, .. }
        | Call::Unlink { name, .. }
        | Call::Lookup { name, .. } => is_folder(name),
        Call::Rename { from, to } => is_folder(&from.1) || is_folder(&to.1),
        _ => false,
    }
}

impl Seen {
    /// Takes over what another thread saw.
    pub(super) fn merge(&mut self, other: Self) {
        self.operations.extend(other.operations);
        self.through_pages.extend(other.through_pages);
        self.broken.extend(other.broken);
        for (kind, count) in other.kinds {
            let all = self.kinds.entry(kind).or_default();
            all.done += count.done;
            all.refused += count.refused;
        }
        self.unknown += other.unknown;
        self.cut += other.cut;
        self.stale += other.stale;
        self.beside = [0, 1].map(|index| self.beside[index] + other.beside[index]);
        self.longest = self.longest.max(other.longest);
    }

    /// Takes the reads from pages in among the other facts, without those that saw a write of their own
    /// mount while it ran; answers how many those were. Linux puts a write into its pages before it hands
    /// it on, so such a read sees what may not have happened yet.
    pub(super) fn take_in_reads_from_pages(&mut self) -> usize {
        let mut writes = BTreeMap::new();
        for Operation { life, call, begin, end, .. } in &self.operations {
            if let Call::Write { value, .. } = call {
                let (first, last) = writes.entry((*life, *value)).or_insert((*begin, *end));
                (*first, *last) = ((*first).min(*begin), (*last).max(*end));
            }
        }
        let runs = |read: &Operation, value: &Value| {
            writes.get(&(read.life, *value)).is_some_and(|(begin, end)| *begin < read.end && read.begin < *end)
        };
        let all = std::mem::take(&mut self.through_pages);
        let before = all.len();
        let early = |read: &Operation| match &read.reply {
            Reply::Cells(found) => found.iter().any(|value| runs(read, value)),
            _ => false,
        };
        let judged: Vec<Operation> = all.into_iter().filter(|read| !early(read)).collect();
        let left_out = before - judged.len();
        self.operations.extend(judged);
        left_out
    }

    /// Leaves out stats of files that ran beside a change of names on their own mount; answers how many. As
    /// with every file system of Linux, the number of links is seen to change a moment before the name that
    /// the kernel knows does.
    pub(super) fn leave_out_stats_beside_changes(&mut self) -> usize {
        let mut changes: [Vec<(u64, u64)>; 2] = Default::default();
        for Operation { life, call, begin, end, .. } in &self.operations {
            if matches!(call, Call::Link { .. } | Call::Unlink { .. } | Call::Rename { .. }) {
                changes[life.client as usize].push((*begin, *end));
            }
        }
        let merged = changes.map(merge);
        let beside = |operation: &Operation| {
            let changes = &merged[operation.life.client as usize];
            let next = changes.partition_point(|(_, end)| *end < operation.begin);
            matches!(operation.call, Call::Stat { .. })
                && changes.get(next).is_some_and(|(begin, _)| *begin < operation.end)
        };
        let before = self.operations.len();
        self.operations.retain(|operation| !beside(operation));
        before - self.operations.len()
    }

    /// All calls, each once, however many facts it told.
    pub(super) fn calls(&self) -> u64 {
        self.unknown + self.kinds.values().map(|kind| kind.done + kind.refused).sum::<u64>()
    }
}

//! The search of Wing and Gong with Lowe's memory of what was tried: operations are put in an order
//! one by one; an operation may come next if no other one ended before it began. An operation whose
//! outcome is unknown never ends: it may come at any later place, or not at all.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::history::{Call, Life, Reply};

/// Steps after which a search gives up.
const MAX_STEPS: u64 = 3_000_000;

/// What an object does.
pub(crate) trait Model {
    /// Its state.
    type State: Clone + Hash + PartialEq;
    /// The states in which it may be after a call with this reply; none: the reply is impossible.
    fn step(&self, state: &Self::State, event: &Event) -> Vec<Self::State>;
}

/// An operation on the object.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) life: Life,
    pub(crate) call: Call,
    pub(crate) reply: Reply,
    pub(crate) begin: u64,
    /// u64::MAX: it never ended.
    pub(crate) end: u64,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is an order; it took so many steps to find.
    Linearizable(u64),
    /// There is none. The longest order that was found, and what could not come next.
    Impossible { longest: usize, next: Vec<String> },
    /// The search was given up.
    Undecided,
}

struct Frame<S> {
    state: S,
    /// What may come next, and of it the next to try with its next outcome.
    candidates: Vec<usize>,
    candidate: usize,
    outcome: usize,
    /// What was put in place to come here.
    placed: Vec<usize>,
}

struct Search<'a, M: Model> {
    model: &'a M,
    events: &'a [Event],
    done: Vec<bool>,
    /// Events in place that have an end.
    ended: usize,
    steps: u64,
}

impl<M: Model> Search<'_, M> {
    fn place(&mut self, event: usize) {
        self.done[event] = true;
        self.ended += usize::from(self.events[event].end != u64::MAX);
    }

    fn take_back(&mut self, placed: &[usize]) {
        for event in placed {
            self.done[*event] = false;
            self.ended -= usize::from(self.events[*event].end != u64::MAX);
        }
    }

    /// A place of the search. What only looks, and sees this very state, is put in place at once: that
    /// forbids nothing later.
    fn frame(&mut self, state: M::State, placed: Option<usize>) -> Frame<M::State> {
        let mut placed: Vec<usize> = placed.into_iter().collect();
        loop {
            let candidates = candidates(self.events, &self.done);
            let before = placed.len();
            for event in &candidates {
                if self.events[*event].call.reads()
                    && self.model.step(&state, &self.events[*event])[..] == [state.clone()]
                {
                    self.steps += 1;
                    self.place(*event);
                    placed.push(*event);
                }
            }
            if placed.len() == before {
                return Frame { state, candidates, candidate: 0, outcome: 0, placed };
            }
        }
    }
}

/// Looks for an order. Events are sorted by their begin.
pub(crate) fn search<M: Model>(model: &M, initial: M::State, events: &[Event]) -> Verdict {
    let must = events.iter().filter(|event| event.end != u64::MAX).count();
    let mut search = Search { model, events, done: vec![false; events.len()], ended: 0, steps: 0 };
    let mut seen: HashSet<u64> = HashSet::new();
    let mut best: (usize, Vec<String>) = (0, Vec::new());
    let first = search.frame(initial, None);
    let mut stack = vec![first];
    while let Some(frame) = stack.last_mut() {
        if search.ended == must {
            return Verdict::Linearizable(search.steps);
        }
        let Some(&event) = frame.candidates.get(frame.candidate) else {
            if search.ended >= best.0 {
                let next = frame.candidates.iter().map(|event| format!("{:?}", events[*event])).collect();
                best = (search.ended, next);
            }
            // Nothing comes next here.
            search.take_back(&frame.placed);
            stack.pop();
            continue;
        };
        search.steps += 1;
        if search.steps > MAX_STEPS {
            return Verdict::Undecided;
        }
        let mut outcomes = model.step(&frame.state, &events[event]);
        if frame.outcome >= outcomes.len() {
            frame.candidate += 1;
            frame.outcome = 0;
            continue;
        }
        let state = outcomes.swap_remove(frame.outcome);
        frame.outcome += 1;
        search.place(event);
        if seen.insert(fingerprint(&search.done, &state)) {
            let next = search.frame(state, Some(event));
            stack.push(next);
        } else {
            search.take_back(&[event]);
        }
    }
    Verdict::Impossible { longest: best.0, next: best.1 }
}

/// What may come next: whatever began before the first of the rest ended.
fn candidates(events: &[Event], done: &[bool]) -> Vec<usize> {
    let rest = || events.iter().enumerate().filter(|(index, _)| !done[*index]);
    let mut first_end = u64::MAX;
    let mut found = Vec::new();
    for (index, event) in rest() {
        if event.begin > first_end {
            break;
        }
        first_end = first_end.min(event.end);
        found.push(index);
    }
    found.retain(|index| events[*index].begin < first_end);
    // Those that ended first, first; what may never have happened last.
    found.sort_by_key(|index| events[*index].end);
    found
}

fn fingerprint<S: Hash>(done: &[bool], state: &S) -> u64 {
    let mut hasher = DefaultHasher::new();
    done.hash(&mut hasher);
    state.hash(&mut hasher);
    hasher.finish()
}

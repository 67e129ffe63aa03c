//! The search of Wing and Gong with Lowe's memory of what was tried: operations are put in an order
//! one by one; an operation may come next if no other one ended before it began. An operation whose
//! outcome is unknown never ends: it may come at any later place, or not at all.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::history::Operation;

/// Steps after which a search gives up, and more for each operation.
const MAX_STEPS: u64 = 3_000_000;
const MAX_STEPS_EACH: u64 = 200;

/// What an object does.
pub(super) trait Model {
    /// Its state.
    type State: Clone + Hash + PartialEq;
    /// The states in which it may be after a call with this reply; none: the reply is impossible.
    fn step(&self, state: &Self::State, event: &Operation) -> Vec<Self::State>;
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
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

/// Events that are not in place yet: a linked list, so that the rest of a long history is found at once.
struct Rest {
    /// Of each event and, last, of the list itself: its neighbours.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Names the set of those in place.
    hash: u64,
}

impl Rest {
    fn new(events: usize) -> Self {
        let next = (1..=events).chain([0]).collect();
        let previous = [events].into_iter().chain(0..events).collect();
        Self { next, previous, hash: 0 }
    }

    /// A number that looks random, of its own for each event (splitmix64).
    fn mix(event: usize) -> u64 {
        let mut x = (event as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn remove(&mut self, event: usize) {
        let (previous, next) = (self.previous[event], self.next[event]);
        self.next[previous] = next;
        self.previous[next] = previous;
        self.hash ^= Self::mix(event);
    }

    /// Undoes the last [`Self::remove`] that was not undone.
    fn put_back(&mut self, event: usize) {
        let (previous, next) = (self.previous[event], self.next[event]);
        self.next[previous] = event;
        self.previous[next] = event;
        self.hash ^= Self::mix(event);
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        let head = self.next.len() - 1;
        std::iter::successors(Some(self.next[head]), |event| Some(self.next[*event]))
            .take_while(move |event| *event != head)
    }
}

struct Search<'a, M: Model> {
    model: &'a M,
    events: &'a [Operation],
    rest: Rest,
    /// Events in place that have an end.
    ended: usize,
    steps: u64,
}

impl<M: Model> Search<'_, M> {
    fn place(&mut self, event: usize) {
        self.rest.remove(event);
        self.ended += usize::from(self.events[event].end != u64::MAX);
    }

    fn take_back(&mut self, placed: &[usize]) {
        for event in placed.iter().rev() {
            self.rest.put_back(*event);
            self.ended -= usize::from(self.events[*event].end != u64::MAX);
        }
    }

    /// What may come next: whatever began before the first of the rest ended.
    fn candidates(&self) -> Vec<usize> {
        let mut first_end = u64::MAX;
        let mut found = Vec::new();
        for index in self.rest.iter() {
            let event = &self.events[index];
            if event.begin > first_end {
                break;
            }
            first_end = first_end.min(event.end);
            found.push(index);
        }
        found.retain(|index| self.events[*index].begin < first_end);
        // Those that ended first, first; what may never have happened last.
        found.sort_by_key(|index| self.events[*index].end);
        found
    }

    /// A place of the search. What only looks, and sees this very state, is put in place at once: that
    /// forbids nothing later.
    fn frame(&mut self, state: M::State, placed: Option<usize>) -> Frame<M::State> {
        let mut placed: Vec<usize> = placed.into_iter().collect();
        loop {
            let candidates = self.candidates();
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
pub(super) fn search<M: Model>(model: &M, initial: M::State, events: &[Operation]) -> Verdict {
    let must = events.iter().filter(|event| event.end != u64::MAX).count();
    let max_steps = MAX_STEPS + MAX_STEPS_EACH * events.len() as u64;
    let mut search = Search { model, events, rest: Rest::new(events.len()), ended: 0, steps: 0 };
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
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
        if search.steps > max_steps {
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
        if seen.insert((search.rest.hash, hash_of(&state))) {
            let next = search.frame(state, Some(event));
            stack.push(next);
        } else {
            search.take_back(&[event]);
        }
    }
    Verdict::Impossible { longest: best.0, next: best.1 }
}

fn hash_of<S: Hash>(state: &S) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

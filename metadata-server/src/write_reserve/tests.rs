//! The ledger among mounts that lose answers, change leaders, come and go: never over the budget, and
//! everybody gets something.

use std::collections::BTreeMap;

use cairn_common::ids::SessionId;
use cairn_common::protocol::write_reserve::{ReserveReport, ReserveShare};
use proptest::prelude::*;

use super::Ledger;

const BUDGET: u64 = 1000;
const LIMIT: u64 = 640;

/// A mount by the rules of `cairn_common::client::WriteGrant`, with its one report under way.
#[derive(Clone, Debug, Default)]
struct Mount {
    number: u64,
    granted: u64,
    used: u64,
    wanted: u64,
    /// Leader by whose answer it knows that leader.
    knows: usize,
    sent: Option<ReserveReport>,
    /// Copies that an earlier leader, or this one, may still get.
    copies: Vec<(usize, ReserveReport)>,
    answer: Option<(usize, Option<ReserveShare>)>,
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Close(usize),
    Write(usize, u64),
    Commit(usize, u64),
    Want(usize, u64),
    Report(usize),
    Arrive(usize),
    ArriveLate(usize, usize),
    Hear(usize),
    LoseAnswer(usize),
    NewLeader,
}

struct World {
    ledger: Ledger,
    leader: usize,
    mounts: BTreeMap<u64, Mount>,
    opened: u64,
}

impl World {
    fn new() -> Self {
        let mut ledger = Ledger::new([]);
        ledger.set_budget(BUDGET);
        Self { ledger, leader: 1, mounts: BTreeMap::new(), opened: 0 }
    }

    fn nth(&self, index: usize) -> Option<u64> {
        self.mounts.keys().nth(index % self.mounts.len().max(1)).copied()
    }

    /// A report reaches the leader; one of a mount that has another leader's generation does not count.
    fn deliver(&mut self, session: u64, knows: usize, report: ReserveReport) -> Option<ReserveShare> {
        (knows == self.leader).then(|| self.ledger.report(SessionId(session), report)).flatten()
    }

    fn step(&mut self, step: Step) {
        let at = |index| self.nth(index);
        match step {
            Step::Open => {
                self.opened += 1;
                self.ledger.open(SessionId(self.opened));
                self.mounts.insert(self.opened, Mount { wanted: LIMIT, ..Mount::default() });
            }
            Step::Close(index) => {
                if let Some(session) = at(index) {
                    self.mounts.remove(&session);
                    self.ledger.end(SessionId(session));
                }
            }
            Step::NewLeader => {
                self.leader += 1;
                self.ledger = Ledger::new(self.mounts.keys().copied().map(SessionId));
                self.ledger.set_budget(BUDGET);
            }
            Step::Arrive(index) => {
                let Some(session) = at(index) else { return };
                let Some((knows, report)) = self.mounts[&session].sent.map(|sent| (self.mounts[&session].knows, sent))
                else {
                    return;
                };
                let share = self.deliver(session, knows, report);
                let leader = self.leader;
                self.mounts.get_mut(&session).unwrap().answer = Some((leader, share));
            }
            Step::ArriveLate(index, copy) => {
                let Some(session) = at(index) else { return };
                let copies = &self.mounts[&session].copies;
                if let Some((knows, report)) = copies.get(copy % copies.len().max(1)).copied() {
                    self.deliver(session, knows, report);
                }
            }
            Step::Write(index, _)
            | Step::Commit(index, _)
            | Step::Want(index, _)
            | Step::Report(index)
            | Step::Hear(index)
            | Step::LoseAnswer(index) => {
                if let Some(mount) = at(index).and_then(|session| self.mounts.get_mut(&session)) {
                    mount.step(step);
                }
            }
        }
    }

    fn hold(&self) -> u64 {
        self.mounts.values().map(|mount| mount.granted.max(mount.used)).sum()
    }
}

impl Mount {
    fn step(&mut self, step: Step) {
        match step {
            Step::Write(_, bytes) if self.used + bytes <= self.granted => self.used += bytes,
            Step::Commit(_, bytes) => self.used -= bytes.min(self.used),
            Step::Want(_, bytes) => self.wanted = bytes,
            Step::Report(_) => {
                self.number += 1;
                let held = self.granted.max(self.used);
                let report = ReserveReport { number: self.number, held, wanted: self.wanted, full: false };
                self.sent = Some(report);
                self.copies.push((self.knows, report));
                self.answer = None;
            }
            Step::Hear(_) => {
                if let Some((leader, share)) = self.answer.take() {
                    self.sent = None;
                    self.knows = leader;
                    self.granted = share.map_or(self.granted, |share| share.granted);
                }
            }
            Step::LoseAnswer(_) => self.answer = None,
            _ => {}
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop_oneof![Just(1u64), 1u64..LIMIT];
    prop_oneof![
        2 => Just(Step::Open),
        1 => (0usize..8).prop_map(Step::Close),
        4 => (0usize..8, bytes()).prop_map(|(index, bytes)| Step::Write(index, bytes)),
        3 => (0usize..8, bytes()).prop_map(|(index, bytes)| Step::Commit(index, bytes)),
        1 => (0usize..8, prop_oneof![Just(0u64), Just(40), Just(LIMIT)])
            .prop_map(|(index, bytes)| Step::Want(index, bytes)),
        8 => (0usize..8).prop_map(Step::Report),
        8 => (0usize..8).prop_map(Step::Arrive),
        2 => (0usize..8, 0usize..64).prop_map(|(index, copy)| Step::ArriveLate(index, copy)),
        8 => (0usize..8).prop_map(Step::Hear),
        2 => (0usize..8).prop_map(Step::LoseAnswer),
        1 => Just(Step::NewLeader),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn never_over_the_budget_and_everybody_gets_something(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            prop_assert!(world.hold() <= BUDGET, "mounts hold {}", world.hold());
            prop_assert!(world.ledger.totals().granted <= BUDGET);
        }
        // All write, commit, and ask long enough.
        let count = world.mounts.len();
        for _ in 0..6 {
            for index in 0..count {
                world.step(Step::Want(index, LIMIT));
                world.step(Step::Commit(index, LIMIT));
                world.step(Step::Report(index));
                world.step(Step::Arrive(index));
                world.step(Step::Hear(index));
                prop_assert!(world.hold() <= BUDGET);
            }
        }
        let fair = (BUDGET / count.max(1) as u64).min(LIMIT);
        for mount in world.mounts.values() {
            prop_assert!(mount.granted >= fair, "one of {count} has {}, not {fair}", mount.granted);
        }
    }
}

fn report(number: u64, held: u64, wanted: u64) -> ReserveReport {
    ReserveReport { number, held, wanted, full: false }
}

fn granted(share: Option<ReserveShare>) -> u64 {
    share.expect("the budget is known").granted
}

#[test]
fn who_wants_little_leaves_the_rest_to_others() {
    let mut ledger = Ledger::new([]);
    ledger.set_budget(1000);
    let (a, b, c) = (SessionId(1), SessionId(2), SessionId(3));
    assert_eq!(granted(ledger.report(a, report(1, 0, 800))), 800);
    assert_eq!(granted(ledger.report(b, report(1, 0, 800))), 200, "what there is");
    assert_eq!(granted(ledger.report(c, report(1, 0, 100))), 0);
    assert_eq!(granted(ledger.report(a, report(2, 800, 800))), 450, "lowered");
    assert_eq!(granted(ledger.report(b, report(2, 200, 800))), 200, "a has not said yet that it holds less");
    assert_eq!(granted(ledger.report(a, report(3, 450, 800))), 450);
    assert_eq!(granted(ledger.report(c, report(2, 0, 100))), 100);
    assert_eq!(granted(ledger.report(b, report(3, 200, 800))), 450);
    assert_eq!(ledger.totals().granted, 1000);
}

#[test]
fn a_new_leader_raises_nobody_before_it_has_heard_all() {
    let (a, b) = (SessionId(1), SessionId(2));
    let mut ledger = Ledger::new([a, b]);
    assert_eq!(ledger.report(a, report(5, 300, 900)), None, "the budget is not known");
    ledger.set_budget(1000);
    assert_eq!(granted(ledger.report(a, report(6, 300, 900))), 300);
    ledger.open(SessionId(3));
    assert_eq!(granted(ledger.report(SessionId(3), report(1, 0, 100))), 0);
    ledger.retain(|session| session != b);
    assert_eq!(granted(ledger.report(SessionId(3), report(2, 0, 100))), 100);
    ledger.set_budget(0);
    assert_eq!(ledger.report(a, report(7, 300, 900)), Some(ReserveShare { granted: 0, full: true }));
}

#[test]
fn an_overtaken_report_does_not_count() {
    let a = SessionId(1);
    let mut ledger = Ledger::new([]);
    ledger.set_budget(1000);
    assert_eq!(granted(ledger.report(a, report(1, 0, 900))), 900);
    assert_eq!(granted(ledger.report(a, report(2, 900, 900))), 900);
    assert_eq!(granted(ledger.report(a, report(1, 0, 50))), 900);
    assert_eq!(ledger.totals().granted, 900);
}

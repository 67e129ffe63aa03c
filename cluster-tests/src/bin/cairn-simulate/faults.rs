//! What goes wrong in a run, and when: drawn from the seed before it begins.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

use crate::network::Node;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

/// Which machines there are: metadata servers, chunk servers, clients, in this order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) metadata: usize,
    pub(crate) chunk: usize,
    pub(crate) clients: usize,
}

impl Layout {
    pub(crate) fn machines(self) -> usize {
        self.metadata + self.chunk + self.clients
    }

    pub(crate) fn servers(self) -> usize {
        self.metadata + self.chunk
    }

    pub(crate) fn first_client(self) -> usize {
        self.servers()
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// A server's process dies; with `power` what it had not synced is lost.
    Crash { node: Node, power: bool },
    /// The process of whichever metadata server leads dies; with `power` what it had not synced is lost.
    CrashLeader { power: bool },
    /// The power of all servers fails at once.
    Blackout,
    /// A mount dies with what it holds.
    LoseClient { node: Node },
    /// A process does not run for a while (SIGSTOP).
    Stop { node: Node },
    /// Nothing goes from one machine to the other.
    Cut { from: Node, to: Node },
    /// A machine reaches nobody, or nobody reaches it.
    Isolate { node: Node, outward: bool, inward: bool },
    /// Many messages are lost, doubled, late.
    Storm,
    /// A wall clock jumps by so many nanoseconds.
    ClockJump { node: Node, by: i64 },
}

/// A fault with its time.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) at: u64,
    /// When it is mended; for crashes, when the process starts again.
    pub(crate) until: u64,
    pub(crate) fault: Fault,
}

impl Fault {
    /// Its name in statistics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Crash { power: true, .. } => "power loss",
            Self::Crash { power: false, .. } => "kill",
            Self::CrashLeader { .. } => "leader lost",
            Self::Blackout => "blackout",
            Self::LoseClient { .. } => "client lost",
            Self::Stop { .. } => "stop",
            Self::Cut { .. } => "one-way cut",
            Self::Isolate { .. } => "isolation",
            Self::Storm => "storm",
            Self::ClockJump { .. } => "clock jump",
        }
    }
}

/// Draws the faults of a run: six to ten between `from` and `to`, of at least three kinds, one of them a
/// loss of power that drops unsynced writes.
pub(crate) fn plan(layout: Layout, from: u64, to: u64, dice: &mut StdRng) -> Vec<Planned> {
    let count = dice.random_range(6..=10);
    let first = loop {
        let fault = draw(layout, dice);
        if matches!(fault, Fault::Crash { power: true, .. } | Fault::Blackout) {
            break fault;
        }
    };
    let mut faults = vec![first];
    while faults.len() < count || kinds(&faults) < 3 {
        faults.push(draw(layout, dice));
    }
    let mut plan: Vec<Planned> = faults
        .into_iter()
        .map(|fault| {
            let at = dice.random_range(from..to);
            let longest = match fault {
                Fault::Storm => 3 * SECOND,
                Fault::Stop { node } if node >= layout.first_client() => 10 * SECOND,
                Fault::Isolate { .. } | Fault::Cut { .. } => 6 * SECOND,
                _ => 4 * SECOND,
            };
            // Mostly short ones.
            let most = if dice.random_bool(0.3) { longest } else { longest / 4 };
            let until = at + dice.random_range(20 * MILLISECOND..most);
            Planned { at, until, fault }
        })
        .collect();
    plan.sort_by_key(|planned| planned.at);
    plan
}

fn kinds(faults: &[Fault]) -> usize {
    let kinds: BTreeMap<_, _> = faults.iter().map(|fault| (fault.kind(), ())).collect();
    kinds.len()
}

fn draw(layout: Layout, dice: &mut StdRng) -> Fault {
    let server = dice.random_range(0..layout.servers());
    let metadata = dice.random_range(0..layout.metadata);
    let client = layout.first_client() + dice.random_range(0..layout.clients);
    let any = dice.random_range(0..layout.machines());
    match dice.random_range(0..100) {
        0..14 => Fault::Crash { node: server, power: true },
        14..18 => Fault::Crash { node: metadata, power: true },
        18..24 => Fault::CrashLeader { power: dice.random_bool(0.5) },
        24..32 => Fault::Crash { node: server, power: false },
        32..37 => Fault::Blackout,
        37..46 => Fault::LoseClient { node: client },
        46..54 => Fault::Stop { node: client },
        54..62 => Fault::Stop { node: server },
        62..74 => {
            let to = (any + dice.random_range(1..layout.machines())) % layout.machines();
            Fault::Cut { from: any, to }
        }
        74..84 => {
            let (outward, inward) = [(true, true), (true, false), (false, true)][dice.random_range(0..3)];
            Fault::Isolate { node: [metadata, client, any][dice.random_range(0..3)], outward, inward }
        }
        84..92 => Fault::Storm,
        _ => {
            let by = dice.random_range(-3_000_000_000..3_000_000_000);
            Fault::ClockJump { node: any, by }
        }
    }
}

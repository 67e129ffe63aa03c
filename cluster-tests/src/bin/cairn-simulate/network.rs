//! The network between the machines: requests and answers that travel for a random time, so that they
//! overtake each other, and may be lost, doubled, cut off in one direction, or held by a stopped
//! machine. Time goes in ticks; a message arrives no earlier than in the next one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use cairn_common::protocol::{Service, ServiceError};
use cairn_common::transport::{Answer, Call, Incoming, PeerIdentity, RequestHandler, Transport, TransportError};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::trace::Trace;

/// Number of a machine.
pub(crate) type Node = usize;

/// A connection to a machine without a server fails after this, in nanoseconds.
const REFUSED_NANOS: u64 = 1_000_000;
/// A connection that is cut, or whose other end does not run, is given up after this (the idle timeout
/// of the real transport), in nanoseconds.
const IDLE_NANOS: u64 = 2_000_000_000;

/// How the network treats messages.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Shortest and longest usual time of travel, in nanoseconds.
    pub(crate) travel: (u64, u64),
    /// Part of the messages that take much longer, and how long at most.
    pub(crate) slow: (f64, u64),
    /// Part of the messages that are lost.
    pub(crate) loss: f64,
    /// Part of the requests that arrive twice.
    pub(crate) doubled: f64,
}

/// Counts what the network did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) cut: u64,
    pub(crate) overtaken: u64,
}

/// The network; one a simulation.
pub(crate) struct Network {
    state: Mutex<State>,
}

struct State {
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Flying>>,
    calls: BTreeMap<u64, Pending>,
    ends: Vec<End>,
    cuts: BTreeSet<(Node, Node)>,
    weather: Weather,
    dice: StdRng,
    counts: Counts,
    trace: Trace,
}

/// A call that has no answer.
struct Pending {
    from: Node,
    to: Node,
    waiting: oneshot::Sender<Result<Answer, TransportError>>,
}

/// One machine's end.
struct End {
    peer: Arc<PeerIdentity>,
    life: u64,
    handle: Option<Handle>,
    handler: Option<Arc<dyn RequestHandler>>,
    stopped: bool,
    held: Vec<Message>,
}

struct Flying {
    at: u64,
    sequence: u64,
    message: Message,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Flying {}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[derive(Clone)]
struct Message {
    from: Node,
    to: Node,
    /// Life of the receiver; None: whichever is there.
    life: Option<u64>,
    call: u64,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Request(Incoming),
    Answer(Result<Answer, TransportError>),
}

/// The address of a machine's server.
pub(crate) fn address_of(node: Node) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 7000))
}

fn node_of(address: SocketAddr) -> Option<Node> {
    match address {
        SocketAddr::V4(address) => (address.ip().octets()[3] as usize).checked_sub(1),
        SocketAddr::V6(_) => None,
    }
}

impl Network {
    pub(crate) fn new(peers: Vec<PeerIdentity>, weather: Weather, dice: StdRng, trace: Trace) -> Arc<Self> {
        let end =
            |peer| End { peer: Arc::new(peer), life: 0, handle: None, handler: None, stopped: false, held: Vec::new() };
        Arc::new(Self {
            state: Mutex::new(State {
                now: 0,
                sequence: 0,
                queue: BinaryHeap::new(),
                calls: BTreeMap::new(),
                ends: peers.into_iter().map(end).collect(),
                cuts: BTreeSet::new(),
                weather,
                dice,
                counts: Counts::default(),
                trace,
            }),
        })
    }

    /// A process starts: messages for an earlier one no longer reach it.
    pub(crate) fn boot(self: &Arc<Self>, node: Node, handle: Handle) -> (Arc<dyn Transport>, u64) {
        let mut state = self.state.lock();
        let end = &mut state.ends[node];
        end.life += 1;
        end.handle = Some(handle);
        (Arc::new(Link { network: self.clone(), node, life: end.life }), end.life)
    }

    /// The process of this life answers requests from now on.
    pub(crate) fn serve(&self, node: Node, life: u64, handler: Arc<dyn RequestHandler>) {
        let mut state = self.state.lock();
        let end = &mut state.ends[node];
        if end.life == life {
            end.handler = Some(handler);
        }
    }

    /// The process ends.
    pub(crate) fn kill(&self, node: Node) {
        let handler = {
            let mut state = self.state.lock();
            let end = &mut state.ends[node];
            end.life += 1;
            end.handle = None;
            end.stopped = false;
            end.held.clear();
            let handler = end.handler.take();
            state.abandon(node, 0);
            handler
        };
        drop(handler);
    }

    /// The process stops or goes on: what arrives meanwhile is held.
    pub(crate) fn set_stopped(&self, node: Node, stopped: bool) {
        let mut state = self.state.lock();
        state.ends[node].stopped = stopped;
        if stopped {
            state.abandon(node, IDLE_NANOS);
        } else {
            for message in std::mem::take(&mut state.ends[node].held) {
                state.fly(0, message);
            }
        }
    }

    /// Cuts one direction, or mends it.
    pub(crate) fn cut(&self, from: Node, to: Node, cut: bool) {
        let mut state = self.state.lock();
        if cut {
            state.cuts.insert((from, to));
        } else {
            state.cuts.remove(&(from, to));
        }
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().counts.clone()
    }

    /// Takes an event of the simulation into the trace.
    pub(crate) fn note(&self, what: &str, numbers: &[u64], bytes: &[u8]) {
        let mut state = self.state.lock();
        let now = state.now;
        state.trace.event(what, &[&[now], numbers].concat(), bytes);
    }

    /// Hash of the trace so far, and number of events.
    pub(crate) fn trace(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.trace.hash(), state.trace.events())
    }

    /// Hands out what has arrived by now.
    pub(crate) fn deliver(self: &Arc<Self>, now: u64) {
        let mut newest = 0;
        loop {
            let message = {
                let mut state = self.state.lock();
                state.now = now;
                match state.queue.peek() {
                    Some(Reverse(flying)) if flying.at <= now => {}
                    _ => return,
                }
                let Some(Reverse(flying)) = state.queue.pop() else { return };
                if flying.sequence < newest {
                    state.counts.overtaken += 1;
                }
                newest = newest.max(flying.sequence);
                flying.message
            };
            self.arrive(message);
        }
    }

    fn arrive(self: &Arc<Self>, message: Message) {
        let mut state = self.state.lock();
        let end = &mut state.ends[message.to];
        if message.life.is_some_and(|life| life != end.life) {
            return;
        }
        if end.stopped {
            if let Body::Request(_) = message.body {
                let (from, to, call) = (message.from, message.to, message.call);
                end.held.push(message);
                state.fail(from, to, call, IDLE_NANOS);
            } else {
                end.held.push(message);
            }
            return;
        }
        let Message { from, to, call, body, .. } = message;
        match body {
            Body::Answer(answer) => {
                let waiting = state.calls.remove(&call);
                let (kind, bytes) = match &answer {
                    Ok(answer) => ("answer", answer.header.clone()),
                    Err(_) => ("failure", bytes::Bytes::new()),
                };
                let now = state.now;
                state.trace.event(kind, &[now, from as u64, to as u64], &bytes);
                drop(state);
                if let Some(Pending { waiting, .. }) = waiting {
                    let _ = waiting.send(answer);
                }
            }
            Body::Request(incoming) => {
                let now = state.now;
                let service = u64::from(incoming.service.as_byte());
                state.trace.event("request", &[now, from as u64, to as u64, service], &incoming.header);
                let peer = state.ends[from].peer.clone();
                let end = &state.ends[to];
                let (Some(handle), Some(handler)) = (end.handle.clone(), end.handler.clone()) else {
                    let error =
                        TransportError::Unreachable { address: address_of(to), reason: "nobody listens".into() };
                    let answer = Message { from: to, to: from, life: None, call, body: Body::Answer(Err(error)) };
                    state.fly(REFUSED_NANOS, answer);
                    return;
                };
                let life = end.life;
                drop(state);
                let network = self.clone();
                handle.spawn(async move {
                    let answer = handler.handle(peer, incoming).await;
                    network.answer(to, life, from, call, answer);
                });
            }
        }
    }

    fn answer(&self, from: Node, life: u64, to: Node, call: u64, answer: Result<Answer, ServiceError>) {
        let mut state = self.state.lock();
        if state.ends[from].life != life {
            return;
        }
        let address = address_of(from);
        let answer = answer
            .map(|answer| {
                let payload = answer.payload.concat();
                let payload = if payload.is_empty() { Vec::new() } else { vec![payload.into()] };
                Answer { header: answer.header, payload }
            })
            .map_err(|error| TransportError::Refused { address, error });
        let message = Message { from, to, life: None, call, body: Body::Answer(answer) };
        state.send(message);
    }

    fn request(&self, from: Node, life: u64, address: SocketAddr, call: Call) -> (u64, Waiting) {
        let (waiting, answer) = oneshot::channel();
        let mut state = self.state.lock();
        state.sequence += 1;
        let number = state.sequence;
        let Some(to) = node_of(address).filter(|to| *to < state.ends.len()) else {
            let error = TransportError::Unreachable { address, reason: "no such address".into() };
            let _ = waiting.send(Err(error));
            return (number, answer);
        };
        let from_role = state.ends[from].peer.role;
        if !call.service.admits(from_role) {
            let error = TransportError::Identity { address, reason: "this role may not use the service".into() };
            let _ = waiting.send(Err(error));
            return (number, answer);
        }
        if state.ends[from].life != life {
            // A process that is gone; nobody waits for the answer.
            return (number, answer);
        }
        state.calls.insert(number, Pending { from, to, waiting });
        let payload = match call.payload.len() {
            0 => bytes::Bytes::new(),
            1 => call.payload.into_iter().next().unwrap_or_default(),
            _ => call.payload.concat().into(),
        };
        let Call { service, request, timeout, header, .. } = call;
        let incoming = Incoming { service, request, timeout, header, payload };
        let message = Message { from, to, life: None, call: number, body: Body::Request(incoming) };
        // A second session would be made, which a mount never sees: the transport itself doubles nothing.
        let may_double = matches!(service, Service::Metadata | Service::Raft | Service::Chunk);
        if may_double && {
            let doubled = state.weather.doubled;
            state.dice.random_bool(doubled)
        } {
            state.counts.doubled += 1;
            state.send(message.clone());
        }
        state.send(message);
        (number, answer)
    }
}

type Waiting = oneshot::Receiver<Result<Answer, TransportError>>;

impl State {
    /// Sends a message, whatever becomes of it.
    fn send(&mut self, message: Message) {
        self.counts.messages += 1;
        let (shortest, longest) = self.weather.travel;
        let mut travel = self.dice.random_range(shortest..=longest);
        let (slow, most) = self.weather.slow;
        if self.dice.random_bool(slow) {
            travel = self.dice.random_range(longest..=most.max(longest));
        }
        let lost = self.dice.random_bool(self.weather.loss);
        let is_cut = self.cuts.contains(&(message.from, message.to));
        if !lost && !is_cut {
            return self.fly(travel, message);
        }
        if is_cut {
            self.counts.cut += 1;
        } else {
            self.counts.lost += 1;
        }
        // The connection broke: the caller finds out at once, or when it was idle for too long.
        let found_out = if self.dice.random_bool(0.5) && !is_cut { travel } else { IDLE_NANOS };
        let (caller, other) = match message.body {
            Body::Request(_) => (message.from, message.to),
            Body::Answer(_) => (message.to, message.from),
        };
        self.fail(caller, other, message.call, found_out);
    }

    /// Has a call of `caller` to `other` fail after a time, unless it is answered before.
    fn fail(&mut self, caller: Node, other: Node, call: u64, after: u64) {
        let error = TransportError::NoAnswer { address: address_of(other), reason: "the connection broke".into() };
        self.fly(after, Message { from: other, to: caller, life: None, call, body: Body::Answer(Err(error)) });
    }

    /// A process is gone or does not run: calls to it fail after at least this time.
    fn abandon(&mut self, node: Node, at_least: u64) {
        let calls: Vec<(u64, Node)> =
            self.calls.iter().filter(|(_, call)| call.to == node).map(|(number, call)| (*number, call.from)).collect();
        for (call, from) in calls {
            let after = at_least.max(self.dice.random_range(REFUSED_NANOS..IDLE_NANOS));
            self.fail(from, node, call, after);
        }
    }

    fn fly(&mut self, travel: u64, message: Message) {
        self.sequence += 1;
        // Sent within a tick, it arrives after the tick.
        let flying = Flying { at: self.now + travel.max(1), sequence: self.sequence, message };
        self.queue.push(Reverse(flying));
    }
}

/// The transport of one life of a process.
struct Link {
    network: Arc<Network>,
    node: Node,
    life: u64,
}

/// Forgets a call that nobody waits for any more.
struct Forget<'a>(&'a Network, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let waiting = self.0.state.lock().calls.remove(&self.1);
        drop(waiting);
    }
}

#[async_trait]
impl Transport for Link {
    async fn call(&self, address: SocketAddr, call: Call) -> Result<Answer, TransportError> {
        let timeout = call.timeout;
        let (number, answer) = self.network.request(self.node, self.life, address, call);
        let _forget = Forget(&self.network, number);
        let no_answer = |reason: String| Err(TransportError::NoAnswer { address, reason });
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => no_answer("the connection is gone".into()),
            Err(_) => no_answer(format!("none within {timeout:?}")),
        }
    }
}

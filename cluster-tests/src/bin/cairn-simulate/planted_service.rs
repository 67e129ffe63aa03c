//! Planted bugs of the leader: a decorator around a metadata server's service that does what the rules
//! forbid, with messages that the service takes from anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cairn_common::codec;
use cairn_common::ids::{InodeId, LeaseGeneration, RequestId, SessionId};
use cairn_common::protocol::metadata::{
    ChangeEffects, LeaseGrant, MetadataReply, MetadataRequest, Mutation, Query, QueryResult,
};
use cairn_common::protocol::write_reserve::ReserveReport;
use cairn_common::protocol::{FsError, Role, Service, ServiceError};
use cairn_common::transport::{Answer, Incoming, PeerIdentity, RequestHandler};
use cairn_meta::namespace::command::{Action, Outcome};
use cairn_meta::namespace::{cluster, plan};
use cairn_meta::raft::MetadataGroup;
use parking_lot::Mutex;

use crate::metadata_host::CLUSTER;
use crate::planted::Planted;

const TIMEOUT: Duration = Duration::from_secs(2);
/// A new leader is asked again until it leads, at most so often, with this pause.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(2);

/// A service with a bug.
pub(crate) struct PlantedService {
    service: Arc<dyn RequestHandler>,
    group: Arc<MetadataGroup>,
    planted: Planted,
    returns: AtomicU64,
    pinned: Mutex<Pinned>,
}

/// What changes under way have pinned, and who was granted leases on it.
#[derive(Default)]
struct Pinned {
    changes: BTreeMap<InodeId, u32>,
    owed: BTreeSet<(SessionId, InodeId)>,
    generations: BTreeMap<SessionId, LeaseGeneration>,
}

impl PlantedService {
    pub(crate) fn start(service: Arc<dyn RequestHandler>, group: Arc<MetadataGroup>, planted: Planted) -> Arc<Self> {
        // Above all that mounts use.
        let returns = AtomicU64::new(1 << 40);
        let planted = Arc::new(Self { service, group, planted, returns, pinned: Mutex::default() });
        if planted.planted == Planted::NoWaitAfterFailover {
            tokio::spawn(planted.clone().check_everybody_in());
        }
        planted
    }

    /// Tells the service a message as if a mount had sent it.
    async fn tell(&self, message: &MetadataRequest) -> Result<MetadataReply, ServiceError> {
        let peer = Arc::new(PeerIdentity { cluster: CLUSTER, role: Role::Mount, name: "planted".into() });
        let header = codec::encode(message).unwrap_or_default().into();
        let (service, request) = (Service::Metadata, RequestId::random());
        let incoming = Incoming { service, request, timeout: TIMEOUT, header, payload: Default::default() };
        let answer = self.service.handle(peer, incoming).await?;
        codec::decode(&answer.header).map_err(|error| ServiceError::Internal { reason: error.to_string() })
    }

    /// As soon as this server leads: says for every session that it has dropped its leases.
    async fn check_everybody_in(self: Arc<Self>) {
        let mut leadership = self.group.leadership();
        while leadership.changed().await.is_ok() {
            if leadership.borrow_and_update().is_none() {
                continue;
            }
            for record in cluster::sessions(&*self.group.view()).unwrap_or_default() {
                let mut leases = LeaseGeneration(0);
                for _ in 0..ATTEMPTS {
                    let (session, epoch) = (record.session, record.epoch);
                    let reserve = ReserveReport::default();
                    match self.tell(&MetadataRequest::KeepAlive { session, epoch, leases, reserve }).await {
                        Ok(MetadataReply::KeptAlive { leases: current, .. }) if current == leases => break,
                        Ok(MetadataReply::KeptAlive { leases: current, .. }) => leases = current,
                        Err(ServiceError::NotLeader { .. }) => tokio::time::sleep(PAUSE).await,
                        _ => break,
                    }
                }
            }
        }
    }

    /// Carries a commit out that was refused because its session is over.
    async fn commit_all_the_same(&self, incoming: &Incoming, request: &MetadataRequest) -> Option<Answer> {
        let MetadataRequest::Mutate { stamp, mutation: mutation @ Mutation::Commit { inode, .. }, .. } = request else {
            return None;
        };
        let action =
            Action::Mutate { stamp: *stamp, mutation: mutation.clone(), pinned: vec![*inode], keep_open: None };
        let Ok(Outcome::Mutated { result, .. }) = self.group.propose(incoming.request, action).await else {
            return None;
        };
        let header = codec::encode(&MetadataReply::Mutated { result, effects: ChangeEffects::default() }).ok()?;
        Some(Answer { header: header.into(), payload: Vec::new() })
    }

    /// Takes from the sender of a change what it was not granted again.
    async fn end_silently(&self, session: SessionId, answer: &Answer) {
        let Ok(MetadataReply::Mutated { effects, .. }) = codec::decode(&answer.header) else { return };
        let told = |inode| effects.held.iter().any(|attributes| attributes.inode == inode);
        let inodes: Vec<_> = effects.changed.iter().copied().filter(|inode| !told(*inode)).collect();
        if inodes.is_empty() {
            return;
        }
        let number = self.returns.fetch_add(1, Ordering::Relaxed);
        let generation = effects.generation;
        drop(self.tell(&MetadataRequest::ReturnLeases { session, generation, number, inodes }).await);
    }
}

impl PlantedService {
    /// Grants leases on what is pinned, and writes them down when the pins are gone.
    async fn grant_pinned(
        &self,
        peer: Arc<PeerIdentity>,
        incoming: Incoming,
        request: Option<MetadataRequest>,
    ) -> Result<Answer, ServiceError> {
        let pins: Vec<InodeId> = match &request {
            Some(MetadataRequest::Mutate { mutation, .. }) => {
                let touches = plan::plan(&*self.group.view(), mutation).unwrap_or_default();
                touches.iter().filter(|touch| touch.change || touch.take).map(|touch| touch.inode).collect()
            }
            _ => Vec::new(),
        };
        self.pin(&pins);
        let answer = self.service.handle(peer, incoming).await;
        for (session, inode) in self.unpin(&pins) {
            drop(self.tell(&MetadataRequest::Reclaim { session, inodes: vec![inode] }).await);
        }
        let answer = answer?;
        let Ok(reply) = codec::decode::<MetadataReply>(&answer.header) else { return Ok(answer) };
        let reply = match (request, reply) {
            (Some(MetadataRequest::KeepAlive { session, .. }), reply) => {
                if let MetadataReply::KeptAlive { leases, .. } = &reply {
                    self.pinned.lock().generations.insert(session, *leases);
                }
                return Ok(answer);
            }
            (
                Some(MetadataRequest::Query { session, query, lease: true }),
                MetadataReply::Answered { answer, sequence, grant },
            ) => {
                let grant = self.grant(session, told(&query, &answer), grant);
                MetadataReply::Answered { answer, sequence, grant }
            }
            _ => return Ok(answer),
        };
        Ok(Answer { header: codec::encode(&reply).unwrap_or_default().into(), payload: answer.payload })
    }

    fn pin(&self, inodes: &[InodeId]) {
        let mut pinned = self.pinned.lock();
        inodes.iter().for_each(|inode| *pinned.changes.entry(*inode).or_default() += 1);
    }

    /// Answers which leases the service has to write down now.
    fn unpin(&self, inodes: &[InodeId]) -> Vec<(SessionId, InodeId)> {
        let mut pinned = self.pinned.lock();
        for inode in inodes {
            if let Some(count) = pinned.changes.get_mut(inode) {
                *count -= 1;
            }
        }
        pinned.changes.retain(|_, count| *count > 0);
        let due: Vec<_> = match inodes.is_empty() {
            true => Vec::new(),
            false => pinned.owed.iter().filter(|(_, inode)| !pinned.changes.contains_key(inode)).copied().collect(),
        };
        pinned.owed.retain(|owed| !due.contains(owed));
        due
    }

    fn grant(&self, session: SessionId, told: BTreeSet<InodeId>, grant: Option<LeaseGrant>) -> Option<LeaseGrant> {
        let mut pinned = self.pinned.lock();
        let refused = grant.as_ref().map_or_else(|| told.into_iter().collect(), |grant| grant.refused.clone());
        let (more, refused): (Vec<InodeId>, Vec<InodeId>) =
            refused.into_iter().partition(|inode| pinned.changes.contains_key(inode));
        let generation = grant.as_ref().map(|grant| grant.generation).or(pinned.generations.get(&session).copied());
        if more.is_empty() {
            return grant;
        }
        pinned.owed.extend(more.into_iter().map(|inode| (session, inode)));
        Some(LeaseGrant { generation: generation?, refused })
    }
}

/// What an answer tells about.
fn told(query: &Query, answer: &Result<QueryResult, FsError>) -> BTreeSet<InodeId> {
    let mut told = BTreeSet::new();
    match query {
        Query::Lookup { parent, .. } => told.insert(*parent),
        Query::Attributes { inode } | Query::Extents { inode, .. } | Query::ReadDirectory { inode, .. } => {
            told.insert(*inode)
        }
        _ => return told,
    };
    if let Ok(QueryResult::Attributes(attributes)) = answer {
        told.insert(attributes.inode);
    }
    told
}

#[async_trait]
impl RequestHandler for PlantedService {
    async fn handle(&self, peer: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        let request = match incoming.service {
            Service::Metadata => incoming.message::<MetadataRequest>().ok(),
            _ => None,
        };
        if self.planted == Planted::GrantBetweenCheckAndApply {
            return self.grant_pinned(peer, incoming, request).await;
        }
        let answer = self.service.handle(peer, incoming.clone()).await;
        match (self.planted, &request, &answer) {
            (Planted::FencedFlushAccepted, Some(request), Err(ServiceError::SessionFenced { .. })) => {
                match self.commit_all_the_same(&incoming, request).await {
                    Some(done) => Ok(done),
                    None => answer,
                }
            }
            (Planted::LeaseEndsSilently, Some(MetadataRequest::Mutate { stamp, .. }), Ok(given)) => {
                self.end_silently(stamp.session, given).await;
                answer
            }
            _ => answer,
        }
    }
}

//! Asks the metadata servers as an administrator. Questions go to all servers at once, so that dead
//! ones cost no time; changes go to the leader alone, once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_common::ids::{MetadataNodeId, RequestId, SessionId};
use cairn_common::protocol::admin::{
    AdminReply, AdminRequest, ClusterStatus, LeaseReport, LeasesOf, LocalStatus, LockReport, MetadataMember,
};
use cairn_common::protocol::{Service, ServiceError};
use cairn_common::transport::{Transport, TransportError, request};
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::error::ControlError;

/// A change of the member list moves a snapshot: it may take this long.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to the metadata servers with the administrator's identity.
pub(crate) struct AdminClient {
    transport: Arc<dyn Transport>,
    metadata: Vec<SocketAddr>,
}

impl AdminClient {
    /// Talks to these servers over that transport.
    pub(crate) fn new(transport: Arc<dyn Transport>, metadata: Vec<SocketAddr>) -> Self {
        Self { transport, metadata }
    }

    /// The state of the cluster, from its leader; waits at most `timeout`.
    pub(crate) async fn status(&self, timeout: Duration) -> Result<(SocketAddr, ClusterStatus), ControlError> {
        let asked = "state of the cluster";
        let mut tried = Vec::new();
        let ask =
            |address: SocketAddr| async move { (address, self.ask(address, &AdminRequest::Status, timeout).await) };
        let mut waiting: FuturesUnordered<_> = self.metadata.iter().map(|address| ask(*address)).collect();
        while let Some((address, answer)) = waiting.next().await {
            match answer {
                Ok(AdminReply::Status(status)) => return Ok((address, *status)),
                Ok(_) => return Err(ControlError::WrongAnswer { address, asked }),
                Err(error) => tried.push((address, reason(&error))),
            }
        }
        Err(ControlError::NoAnswer { asked, tried })
    }

    /// What each server says of itself, in the order of the addresses; waits at most `timeout`.
    pub(crate) async fn locals(&self, timeout: Duration) -> Vec<(SocketAddr, Result<LocalStatus, String>)> {
        let ask = |address: SocketAddr| async move {
            let answer = match self.ask(address, &AdminRequest::Local, timeout).await {
                Ok(AdminReply::Local(local)) => Ok(local),
                Ok(_) => Err("answers with another message: it runs another version".to_owned()),
                Err(error) => Err(reason(&error)),
            };
            (address, answer)
        };
        join_all(self.metadata.iter().map(|address| ask(*address))).await
    }

    /// A number for a new metadata server.
    pub(crate) async fn allocate(&self, leader: SocketAddr) -> Result<MetadataNodeId, ControlError> {
        let asked = "give a number to a new metadata server";
        match self.change(leader, asked, &AdminRequest::AllocateMetadataNode).await? {
            AdminReply::NodeId(node) => Ok(node),
            _ => Err(ControlError::WrongAnswer { address: leader, asked }),
        }
    }

    /// Puts a new metadata server in the place of a lost one.
    pub(crate) async fn replace(
        &self,
        leader: SocketAddr,
        lost: MetadataNodeId,
        new: MetadataMember,
    ) -> Result<(), ControlError> {
        let asked = "replace the metadata server";
        match self.change(leader, asked, &AdminRequest::ReplaceMetadata { lost, new }).await? {
            AdminReply::Done => Ok(()),
            _ => Err(ControlError::WrongAnswer { address: leader, asked }),
        }
    }

    /// Leases as the leader has them; waits at most `timeout`.
    pub(crate) async fn leases(&self, of: &LeasesOf, timeout: Duration) -> Result<LeaseReport, ControlError> {
        let asked = "leases";
        let (leader, _) = self.status(timeout).await?;
        match self.ask(leader, &AdminRequest::Leases(of.clone()), timeout).await {
            Ok(AdminReply::Leases(report)) => Ok(*report),
            Ok(_) => Err(ControlError::WrongAnswer { address: leader, asked }),
            Err(TransportError::Refused { error, .. }) => Err(ControlError::Refused { address: leader, asked, error }),
            Err(error) => Err(ControlError::NoAnswer { asked, tried: vec![(leader, reason(&error))] }),
        }
    }

    /// Locks of files as the leader has them; waits at most `timeout`.
    pub(crate) async fn locks(&self, path: Option<Vec<u8>>, timeout: Duration) -> Result<LockReport, ControlError> {
        let asked = "locks";
        let (leader, _) = self.status(timeout).await?;
        match self.ask(leader, &AdminRequest::Locks { path }, timeout).await {
            Ok(AdminReply::Locks(report)) => Ok(*report),
            Ok(_) => Err(ControlError::WrongAnswer { address: leader, asked }),
            Err(TransportError::Refused { error, .. }) => Err(ControlError::Refused { address: leader, asked, error }),
            Err(error) => Err(ControlError::NoAnswer { asked, tried: vec![(leader, reason(&error))] }),
        }
    }

    /// Ends a session against its mount's will.
    pub(crate) async fn evict(&self, leader: SocketAddr, session: SessionId) -> Result<(), ControlError> {
        let asked = "evict the session";
        match self.change(leader, asked, &AdminRequest::EvictSession { session }).await? {
            AdminReply::Done => Ok(()),
            _ => Err(ControlError::WrongAnswer { address: leader, asked }),
        }
    }

    async fn change(
        &self,
        leader: SocketAddr,
        asked: &'static str,
        message: &AdminRequest,
    ) -> Result<AdminReply, ControlError> {
        self.ask(leader, message, CHANGE_TIMEOUT).await.map_err(|error| match error {
            TransportError::Refused { address, error } => ControlError::Refused { address, asked, error },
            other => ControlError::NoAnswer { asked, tried: vec![(leader, reason(&other))] },
        })
    }

    /// One question to one server. The limit counts for the whole of it, connecting included.
    async fn ask(
        &self,
        address: SocketAddr,
        message: &AdminRequest,
        timeout: Duration,
    ) -> Result<AdminReply, TransportError> {
        let id = RequestId::random();
        let call = request(&*self.transport, address, Service::Admin, id, timeout, message, Vec::new());
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => answer.map(|(reply, _)| reply),
            Err(_) => {
                let reason = format!("silent for {:.1}s", timeout.as_secs_f64());
                Err(TransportError::NoAnswer { address, reason })
            }
        }
    }
}

/// The error without the address, which stands beside it.
fn reason(error: &TransportError) -> String {
    match error {
        TransportError::Unreachable { reason, .. } => format!("cannot be reached: {reason}"),
        TransportError::Identity { reason, .. } => format!("certificates do not fit: {reason}"),
        TransportError::NoAnswer { reason, .. } => format!("no answer: {reason}"),
        TransportError::Invalid { reason, .. } => format!("invalid answer: {reason}"),
        TransportError::Refused { error: ServiceError::NotLeader { leader: None }, .. } => {
            "runs, but the group has no leader: no majority of the metadata servers is up".to_owned()
        }
        TransportError::Refused { error: ServiceError::NotLeader { leader: Some(leader) }, .. } => {
            format!("runs, and says that {leader} leads")
        }
        TransportError::Refused { error, .. } => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use async_trait::async_trait;
    use cairn_common::codec;
    use cairn_common::ids::{ClusterId, TableEpoch};
    use cairn_common::protocol::write_reserve::ReserveStatus;
    use cairn_common::transport::{Answer, Call};

    use super::*;

    /// Scripted servers: what is not in the map is silent forever.
    struct Scripted(HashMap<SocketAddr, Result<AdminReply, ServiceError>>);

    #[async_trait]
    impl Transport for Scripted {
        async fn call(&self, address: SocketAddr, call: Call) -> Result<Answer, TransportError> {
            assert_eq!(call.service, Service::Admin);
            codec::decode::<AdminRequest>(&call.header).unwrap();
            match self.0.get(&address) {
                Some(Ok(reply)) => Ok(Answer::message(reply).unwrap()),
                Some(Err(error)) => Err(TransportError::Refused { address, error: error.clone() }),
                None => std::future::pending().await,
            }
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn client(script: Vec<(u16, Result<AdminReply, ServiceError>)>) -> AdminClient {
        let script = script.into_iter().map(|(port, reply)| (address(port), reply)).collect();
        AdminClient::new(Arc::new(Scripted(script)), vec![address(1), address(2), address(3)])
    }

    fn status() -> ClusterStatus {
        ClusterStatus {
            cluster: ClusterId(7),
            leader: MetadataNodeId(3),
            term: 5,
            applied_index: 9,
            metadata: Vec::new(),
            chunk: Vec::new(),
            table: TableEpoch(1),
            replicas: 3,
            moving_partitions: 0,
            under_replicated_blocks: 0,
            sessions: Vec::new(),
            write_reserve: ReserveStatus::default(),
            feature_level: 1,
        }
    }

    #[tokio::test]
    async fn a_silent_server_does_not_hold_the_answer_up() {
        let follower = Err(ServiceError::NotLeader { leader: Some(address(3)) });
        let client = client(vec![(2, follower), (3, Ok(AdminReply::Status(Box::new(status()))))]);
        let answer = tokio::time::timeout(Duration::from_secs(5), client.status(Duration::from_secs(60))).await;
        let (from, found) = answer.expect("server 1 is silent, server 3 answered").unwrap();
        assert_eq!((from, found.term), (address(3), 5));
    }

    #[tokio::test]
    async fn without_a_leader_every_server_is_named() {
        let client = client(vec![(2, Err(ServiceError::NotLeader { leader: None }))]);
        let error = client.status(Duration::from_millis(50)).await.unwrap_err().to_string();
        for part in ["127.0.0.1:1: no answer", "127.0.0.1:2: runs, but", "127.0.0.1:3: no answer", "majority"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[tokio::test]
    async fn a_refused_change_says_who_refused() {
        let refused = Err(ServiceError::Forbidden { reason: "role mount".to_owned() });
        let error = client(vec![(1, refused)]).allocate(address(1)).await.unwrap_err();
        assert!(matches!(error, ControlError::Refused { address: a, .. } if a == address(1)));
    }
}

//! Sessions, redirection, exactly-once changes and roles, over real QUIC, Raft and
//! RocksDB.

use std::time::Duration;

use super::support::{Cluster, create, lookup, name, quick, until, write};
use bytes::Bytes;
use cairn_common::extent::ExtentContent;
use cairn_common::ids::InodeId;
use cairn_common::protocol::admin::{AdminReply, AdminRequest, NodeState};
use cairn_common::protocol::chunk_control::{ChunkControlReply, ChunkControlRequest};
use cairn_common::protocol::metadata::{
    MetadataReply, MetadataRequest, Mutation, MutationResult, OpenMode, Query, QueryResult,
};
use cairn_common::protocol::{FsError, Role, Service, ServiceError};
use cairn_meta::service::ServiceTimings;

#[tokio::test(flavor = "multi_thread")]
async fn one_server_creates_commits_and_answers() {
    let mut cluster = Cluster::start(1, quick()).await;
    let mount = cluster.mount("m1").await;
    let inode = mount.create("letter", None).await;
    mount.mutate(write(inode, b"dear reader")).await.unwrap();
    let QueryResult::Attributes(found) = mount.query(lookup("letter")).await.unwrap() else { panic!() };
    assert_eq!((found.inode, found.size), (inode, 11));
    assert_eq!(mount.query(lookup("other")).await, Err(FsError::NotFound));
    match mount.query(Query::Extents { inode, from: 0, to: u64::MAX }).await.unwrap() {
        QueryResult::Extents { extents, size: 11, .. } => {
            assert_eq!(extents[0].content, ExtentContent::Inline(Bytes::from_static(b"dear reader")));
        }
        other => panic!("{other:?}"),
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_made_once_however_often_it_is_sent_and_to_whom() {
    let mut cluster = Cluster::start(3, quick()).await;
    let mount = cluster.mount("m1").await;
    let message = mount.change(create("once", None));
    let ask = || async {
        match mount.client.metadata(message.clone()).await.unwrap() {
            MetadataReply::Mutated { result, effects } => (result, effects.changed),
            other => panic!("{other:?}"),
        }
    };
    let first = ask().await;
    let (Ok(MutationResult::Node { attributes, created: true, .. }), changed) = &first else { panic!("{first:?}") };
    assert_eq!(changed, &[InodeId::ROOT, attributes.inode]);
    assert_eq!(ask().await, first, "the answer was lost");
    let leader = cluster.leader().await;
    cluster.stop_node(leader).await;
    assert_eq!(ask().await, first, "and so was the leader");
    let ServiceError::BadSequence = mount
        .client
        .metadata(MetadataRequest::Mutate {
            stamp: cairn_common::protocol::metadata::Stamp { sequence: 7, ..mount.stamp() },
            mutation: create("skipped", None),
            covered: Vec::new(),
        })
        .await
        .unwrap_err()
    else {
        panic!()
    };
    mount.query(lookup("once")).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_names_the_leader_and_a_restarted_server_follows_again() {
    let mut cluster = Cluster::start(3, quick()).await;
    let mount = cluster.mount("m1").await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let message = MetadataRequest::Query {
        session: mount.session,
        query: Query::Attributes { inode: InodeId::ROOT },
        lease: false,
    };
    let answer: Result<MetadataReply, _> =
        mount.client.ask(cluster.address(follower), Service::Metadata, &message).await;
    assert_eq!(answer, Err(ServiceError::NotLeader { leader: Some(cluster.address(leader)) }));
    cluster.stop_node(follower).await;
    mount.create("meanwhile", None).await;
    cluster.start_node(follower).await;
    let admin = cluster.client(Role::Admin, "root");
    until("the restarted server", || async {
        match admin.admin(AdminRequest::Status).await {
            Ok(AdminReply::Status(status)) => {
                let member = &status.metadata[follower];
                let near = member.clock_skew_ms.is_some_and(|skew| skew.abs() < 1000);
                (member.state == NodeState::Up && member.lag_entries == Some(0) && near).then_some(())
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_ends_and_its_open_files_go() {
    let timings = ServiceTimings { session_timeout: Duration::from_millis(1500), ..quick() };
    let mut cluster = Cluster::start(1, timings).await;
    let (silent, alive) = (cluster.mount("silent").await, cluster.mount("alive").await);
    let inode = silent.create("kept", Some(OpenMode::Read)).await;
    alive.mutate(Mutation::Unlink { parent: InodeId::ROOT, name: name("kept") }).await.unwrap();
    assert_eq!(alive.size(inode).await, 0, "an open keeps it");
    until("the end of the open file", || async { alive.query(Query::Attributes { inode }).await.err() }).await;
    let fenced = Err(ServiceError::SessionFenced { session: silent.session });
    assert_eq!(silent.try_query(Query::Attributes { inode: InodeId::ROOT }).await, fenced);
    let change = silent.change(create("late", None));
    assert_eq!(silent.client.metadata(change).await, fenced);
    alive.keep_alive().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_refused_what_is_not_theirs() {
    let mut cluster = Cluster::start(1, quick()).await;
    cluster.leader().await;
    let address = cluster.address(0);
    let is_refused = |answer: Result<(), ServiceError>| matches!(answer, Err(ServiceError::Forbidden { .. }));
    let mount = cluster.client(Role::Mount, "m1");
    let status: Result<AdminReply, _> = mount.ask(address, Service::Admin, &AdminRequest::Status).await;
    assert!(is_refused(status.map(|_| ())));
    let known = cairn_common::ids::TableEpoch(0);
    let table = ChunkControlRequest::PartitionTable { known };
    let control: Result<ChunkControlReply, _> = mount.ask(address, Service::ChunkControl, &table).await;
    assert!(is_refused(control.map(|_| ())));
    let chunk = cluster.client(Role::Chunk, "chunk1");
    let open = MetadataRequest::OpenSession { client: "chunk1".into() };
    let session: Result<MetadataReply, _> = chunk.ask(address, Service::Metadata, &open).await;
    assert!(is_refused(session.map(|_| ())));
    let other = cluster.client(Role::Metadata, "meta9");
    let status: Result<AdminReply, _> = other.ask(address, Service::Admin, &AdminRequest::Status).await;
    assert!(is_refused(status.map(|_| ())), "another server may ask for the clock only");
    let local: Result<AdminReply, _> = other.ask(address, Service::Admin, &AdminRequest::Local).await;
    assert!(matches!(local, Ok(AdminReply::Local(_))));
    cluster.stop().await;
}

//! Sessions, redirection, exactly-once changes, flush on demand and roles, over real QUIC, Raft and
//! RocksDB.

use std::time::{Duration, Instant};

use super::support::{Cluster, Mount, create, name, quick, until};
use bytes::Bytes;
use cairn_common::extent::{Extent, ExtentContent, NewExtent};
use cairn_common::ids::InodeId;
use cairn_common::protocol::admin::{AdminReply, AdminRequest, NodeState};
use cairn_common::protocol::chunk_control::{ChunkControlReply, ChunkControlRequest};
use cairn_common::protocol::metadata::{
    MetadataReply, MetadataRequest, Mutation, MutationResult, OpenMode, Query, QueryResult, SessionEvent,
};
use cairn_common::protocol::{FsError, Role, Service, ServiceError};
use cairn_meta::service::ServiceTimings;

fn write(inode: InodeId, text: &'static [u8]) -> Mutation {
    let content = ExtentContent::Inline(Bytes::from_static(text));
    let extent = Extent { offset: 0, length: text.len() as u64, content };
    let extents = vec![NewExtent { extent, missed: vec![] }];
    Mutation::Commit { inode, extents, append: false, minimum_size: text.len() as u64, mtime: None }
}

fn lookup(file: &str) -> Query {
    Query::Lookup { parent: InodeId::ROOT, name: name(file) }
}

/// The next flush that a mount is asked for.
async fn flush_event(mount: &Mount) -> (InodeId, u64) {
    let poll = MetadataRequest::PollEvents { session: mount.session, wait_ms: 5000 };
    match mount.client.metadata(poll).await.unwrap() {
        MetadataReply::Events(events) => match events.as_slice() {
            [SessionEvent::Flush { inode, ticket }] => (*inode, *ticket),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

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
    let message = MetadataRequest::Mutate { stamp: mount.stamp(), mutation: create("once", None) };
    let first = mount.client.metadata(message.clone()).await.unwrap();
    let MetadataReply::Mutated(Ok(MutationResult::Node { created: true, .. })) = &first else { panic!("{first:?}") };
    assert_eq!(mount.client.metadata(message.clone()).await.unwrap(), first, "the answer was lost");
    let leader = cluster.leader().await;
    cluster.stop_node(leader).await;
    assert_eq!(mount.client.metadata(message).await.unwrap(), first, "and so was the leader");
    let ServiceError::BadSequence = mount
        .client
        .metadata(MetadataRequest::Mutate {
            stamp: cairn_common::protocol::metadata::Stamp { sequence: 7, ..mount.stamp() },
            mutation: create("skipped", None),
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
    let message = MetadataRequest::Query { session: mount.session, query: Query::Attributes { inode: InodeId::ROOT } };
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
    let change = MetadataRequest::Mutate { stamp: silent.stamp(), mutation: create("late", None) };
    assert_eq!(silent.client.metadata(change).await, fenced);
    let alive_keep = MetadataRequest::KeepAlive { session: alive.session, epoch: alive.epoch };
    assert!(matches!(alive.client.metadata(alive_keep).await, Ok(MetadataReply::KeptAlive { .. })));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_what_another_mount_holds_back() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (writer, reader) = (cluster.mount("writer").await, cluster.mount("reader").await);
    let inode = writer.create("shared", Some(OpenMode::Write)).await;
    assert_eq!(writer.size(inode).await, 0, "the writer does not wait for itself");
    let asking = async {
        let QueryResult::Attributes(found) = reader.query(lookup("shared")).await.unwrap() else { panic!() };
        found.size
    };
    let flushing = async {
        let (flushed, ticket) = flush_event(&writer).await;
        assert_eq!(flushed, inode);
        writer.mutate(write(inode, b"held back")).await.unwrap();
        let done = MetadataRequest::FlushDone { session: writer.session, ticket };
        assert_eq!(writer.client.metadata(done).await, Ok(MetadataReply::Done));
    };
    let (size, ()) = tokio::join!(asking, flushing);
    assert_eq!(size, 9);
    // A truncation waits for the writer's bytes, too, and then cuts them.
    let truncating = reader.mutate(Mutation::SetAttributes {
        inode,
        changes: cairn_common::protocol::metadata::AttributeChanges { size: Some(4), ..Default::default() },
    });
    let flushing = async {
        let (_, ticket) = flush_event(&writer).await;
        writer.mutate(write(inode, b"written before the cut")).await.unwrap();
        let done = MetadataRequest::FlushDone { session: writer.session, ticket };
        writer.client.metadata(done).await.unwrap();
    };
    let (cut, ()) = tokio::join!(truncating, flushing);
    let MutationResult::Attributes(cut) = cut.unwrap() else { panic!() };
    assert_eq!(cut.size, 4);
    writer.mutate(Mutation::Release { opens: vec![(inode, OpenMode::Write)] }).await.unwrap();
    let start = Instant::now();
    assert_eq!(reader.size(inode).await, 4);
    assert!(start.elapsed() < Duration::from_secs(1), "nobody is asked after the release");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_does_not_flush_delays_but_does_not_block() {
    let timings = ServiceTimings { flush_wait: Duration::from_millis(700), ..quick() };
    let mut cluster = Cluster::start(1, timings).await;
    let (writer, reader) = (cluster.mount("writer").await, cluster.mount("reader").await);
    let inode = writer.create("stuck", Some(OpenMode::Write)).await;
    let start = Instant::now();
    assert_eq!(reader.size(inode).await, 0);
    assert!(start.elapsed() >= Duration::from_millis(700));
    assert_eq!(reader.size(inode).await, 0);
    assert!(start.elapsed() < Duration::from_millis(1400), "a stuck writer is waited for once");
    // An event whose answer was lost comes again.
    let (_, ticket) = flush_event(&writer).await;
    let again = until("the event again", || async {
        let poll = MetadataRequest::PollEvents { session: writer.session, wait_ms: 100 };
        match writer.client.metadata(poll).await.unwrap() {
            MetadataReply::Events(events) => events.first().map(|SessionEvent::Flush { ticket, .. }| *ticket),
            other => panic!("{other:?}"),
        }
    })
    .await;
    assert_eq!(again, ticket);
    // The end of the session ends the wait.
    let done = MetadataRequest::FlushDone { session: writer.session, ticket };
    writer.client.metadata(done).await.unwrap();
    let start = Instant::now();
    let close = MetadataRequest::CloseSession { session: writer.session, epoch: writer.epoch };
    let (size, closed) = tokio::join!(reader.size(inode), writer.client.metadata(close));
    assert_eq!((size, closed), (0, Ok(MetadataReply::Done)));
    assert!(start.elapsed() < Duration::from_millis(650));
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

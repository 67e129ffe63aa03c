//! The metadata group end to end in one process: replication, failover, restart, snapshots,
//! replacement, linearizable reads.

mod raft_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_common::ids::{Incarnation, MetadataNodeId, RequestId};
use cairn_common::protocol::{Service, ServiceError};
use cairn_common::transport::quic::QuicTransport;
use cairn_common::transport::{TransportError, request};
use cairn_meta::namespace::command::Outcome;
use cairn_meta::raft::wire::{Envelope, Life, RaftReply, RaftRequest};
use cairn_meta::raft::{GroupTimings, MemberRole};
use raft_support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_keeps_what_it_acknowledged_across_stop_and_crash() {
    let mut cluster = Cluster::start(1, timings()).await;
    cluster.leader().await;
    assert!(matches!(propose(cluster.group(0), "a").await, Ok(Outcome::Session { .. })));
    cluster.group(0).linearize().await.unwrap();
    assert!(has(&*cluster.group(0).view(), "a"));

    let crashed = cluster.crash(0).await;
    cluster.restart(0, crashed).await;
    cluster.leader().await;
    assert!(has(&*cluster.group(0).view(), "a"), "nothing was flushed: the log supplies it");
    propose(cluster.group(0), "b").await.unwrap();

    let stopped = cluster.stop(0).await;
    cluster.restart(0, stopped).await;
    cluster.leader().await;
    let view = cluster.group(0).view();
    assert!(has(&*view, "a") && has(&*view, "b"));
    assert!(cluster.group(0).status().durable_index > 0, "a clean stop flushes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_agree_through_a_change_of_leader() {
    let mut cluster = Cluster::start(3, timings()).await;
    let first = cluster.leader().await;
    let follower = (0..3).find(|index| *index != first).unwrap();
    within(5, "the follower to know the leader", || cluster.group(follower).status().leader.map(|_| ())).await;
    let refused = propose(cluster.group(follower), "no").await;
    assert_eq!(refused, Err(ServiceError::NotLeader { leader: Some(cluster.members[first].address) }));
    assert!(matches!(cluster.group(follower).linearize().await, Err(ServiceError::NotLeader { .. })));

    let group = cluster.group(first).clone();
    let before = group.status().last_log_index;
    let proposals = (0..400).map(|number| {
        let group = group.clone();
        tokio::spawn(async move { propose(&group, &format!("first-{number}")).await.unwrap() })
    });
    let mut numbers = Vec::new();
    for proposal in proposals.collect::<Vec<_>>() {
        let Outcome::Session { session, .. } = proposal.await.unwrap() else { panic!("a session is opened") };
        numbers.push(session.0);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=400).collect::<Vec<_>>(), "each command has an outcome of its own");
    let entries = group.status().last_log_index - before;
    assert!(entries < 200, "400 proposals at once share entries, but {entries} were made");
    cluster.assert_equal(first).await;
    drop(group);

    let crashed = cluster.crash(first).await;
    let start = Instant::now();
    let second = cluster.leader().await;
    eprintln!("a new leader after {:?}", start.elapsed());
    let view = cluster.group(second).view();
    assert!((0..400).all(|number| has(&*view, &format!("first-{number}"))), "what was acknowledged is there");
    propose(cluster.group(second), "second").await.unwrap();

    cluster.restart(first, crashed).await;
    cluster.assert_equal(second).await;
    assert_eq!(cluster.group(second).status().members.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_time_goes_on_when_the_wall_clock_is_set_back() {
    let mut cluster = Cluster::start(1, timings()).await;
    cluster.leader().await;
    propose(cluster.group(0), "before").await.unwrap();
    // A clean stop flushes, so nothing is replayed: the state itself must remember the time.
    let data = cluster.stop(0).await;
    cluster.clock.0.store(3600, std::sync::atomic::Ordering::Relaxed);
    cluster.restart(0, data).await;
    cluster.leader().await;
    propose(cluster.group(0), "after").await.unwrap();
    let view = cluster.group(0).view();
    assert!(time_of(&*view, "after") > time_of(&*view, "before"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_its_log_refuses_to_start() {
    let mut cluster = Cluster::start(1, timings()).await;
    cluster.leader().await;
    propose(cluster.group(0), "acknowledged").await.unwrap();
    let data = cluster.stop(0).await;
    std::fs::remove_dir_all(data.join("log")).unwrap();
    let Err(error) = cluster.try_start(cluster.members[0].clone(), data).await else { panic!("it forgot its vote") };
    assert!(error.to_string().contains("node replace"), "{error}");
}

fn snapshot_timings() -> GroupTimings {
    GroupTimings { snapshot_entries: 60, keep_entries: 10, ..timings() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_long_gets_a_snapshot() {
    let mut cluster = Cluster::start(3, snapshot_timings()).await;
    let leader = cluster.leader().await;
    let away = (0..3).find(|index| *index != leader).unwrap();
    propose(cluster.group(leader), "early").await.unwrap();
    cluster.assert_equal(leader).await;
    let data = cluster.stop(away).await;
    for number in 0..300 {
        propose(cluster.group(leader), &format!("later-{number}")).await.unwrap();
    }
    // The entries that it misses are purged: only a snapshot can help.
    within(5, "the log to be purged", || (cluster.group(leader).status().purged_index > 20).then_some(())).await;
    propose(cluster.group(leader), "last").await.unwrap();
    cluster.restart(away, data.clone()).await;
    let leader = cluster.leader().await;
    cluster.assert_equal(leader).await;
    let installed = std::fs::read_dir(data.join("snapshots")).unwrap().count();
    assert_eq!(installed, 1, "the snapshot is kept");
    // The old state goes when nobody reads it any more, a moment after the new one is in force.
    let states = || std::fs::read_dir(data.join("state")).unwrap().count();
    within(5, "CURRENT and one state", || (states() == 2).then_some(())).await;

    // And it starts again from what it was given.
    let crashed = cluster.crash(away).await;
    cluster.restart(away, crashed).await;
    propose(cluster.group(cluster.leader().await), "after").await.unwrap();
    cluster.assert_equal(cluster.leader().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_is_replaced_under_a_new_id_and_not_believed_under_the_old() {
    let mut cluster = Cluster::start(3, snapshot_timings()).await;
    let leader = cluster.leader().await;
    for number in 0..200 {
        propose(cluster.group(leader), &format!("file-{number}")).await.unwrap();
    }
    let lost = (0..3).find(|index| *index != leader).unwrap();
    std::fs::remove_dir_all(cluster.stop(lost).await).unwrap();

    // Wiped and formatted anew under the old id: its life is another one, so nobody takes its word.
    let mut impostor = cluster.members[lost].clone();
    impostor.incarnation = Incarnation::random();
    let transport = QuicTransport::new(&cluster.identity(&impostor.name)).unwrap();
    let to = cluster.members[leader].clone();
    let ask = |from: Life, to_life: Life| {
        let envelope = Envelope {
            cluster: cluster.cluster,
            from,
            to: to_life,
            request: RaftRequest::SnapshotPiece { transfer: 1, file: 0, offset: 0, hash: [0; 32] },
        };
        let (transport, address) = (&transport, to.address);
        async move {
            let asked = request::<_, RaftReply>(
                transport,
                address,
                Service::Raft,
                RequestId::random(),
                Duration::from_secs(2),
                &envelope,
                vec![],
            );
            match asked.await {
                Err(TransportError::Refused { error, .. }) => error,
                other => panic!("{other:?}"),
            }
        }
    };
    let refused = ask(Life::of(&impostor), Life::of(&to)).await;
    assert!(matches!(&refused, ServiceError::Forbidden { reason } if reason.contains("node replace")), "{refused}");
    let wrong_life = Life { incarnation: Incarnation::random(), ..Life::of(&to) };
    let refused = ask(Life::of(&cluster.members[lost]), wrong_life).await;
    assert!(matches!(&refused, ServiceError::Forbidden { .. }), "{refused}");
    let stranger = Life::of(&cluster.members[(0..3).find(|i| *i != leader && *i != lost).unwrap()]);
    let refused = ask(stranger, Life::of(&to)).await;
    assert!(matches!(&refused, ServiceError::Forbidden { reason } if reason.contains("speaks for")), "{refused}");

    let new = cluster.new_member(4);
    let node = cluster.start_node(new.clone(), cluster.folder.path().join("meta4"), Vec::new()).await;
    cluster.members.push(new.clone());
    cluster.nodes.push(Some(node));
    let lost_id = cluster.members[lost].node;
    let group = cluster.group(leader).clone();
    assert!(matches!(
        group.replace_member(lost_id, cluster.members[lost].clone()).await,
        Err(ServiceError::Invalid { .. })
    ));
    group.replace_member(lost_id, new.clone()).await.unwrap();
    group.replace_member(lost_id, new.clone()).await.unwrap();
    let status = group.status();
    assert_eq!(status.members.len(), 3);
    assert!(status.members.iter().all(|member| member.role == MemberRole::Voter && member.member.node != lost_id));
    assert!(status.members.iter().any(|member| member.member == new));
    drop(group);
    cluster.assert_equal(leader).await;

    // The new one counts: with the third server gone, it and the leader are a majority.
    let third = (0..3).find(|index| *index != leader && *index != lost).unwrap();
    cluster.stop(third).await;
    propose(cluster.group(leader), "with the new one").await.unwrap();
    assert_eq!(cluster.group(3).status().member.node, MetadataNodeId(4));
    cluster.assert_equal(leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_confirms_nothing() {
    let timings = GroupTimings { propose_timeout: Duration::from_secs(2), ..timings() };
    let cluster = Cluster::start(3, timings).await;
    let old = cluster.leader().await;
    propose(cluster.group(old), "before").await.unwrap();
    cluster.isolate(old, true);
    let new = cluster.leader_but(&[old]).await;
    propose(cluster.group(new), "behind its back").await.unwrap();
    assert!(!has(&*cluster.group(old).view(), "behind its back"));
    let read = cluster.group(old).linearize().await;
    assert!(matches!(read, Err(ServiceError::Unavailable { .. } | ServiceError::NotLeader { .. })), "{read:?}");
    let write = propose(cluster.group(old), "lost").await;
    assert!(matches!(write, Err(ServiceError::Unavailable { .. } | ServiceError::NotLeader { .. })), "{write:?}");
    cluster.isolate(old, false);
    cluster.assert_equal(new).await;
    let leader = cluster.leader().await;
    cluster.group(leader).linearize().await.unwrap();
    assert!(has(&*cluster.group(leader).view(), "behind its back"));
    assert!(!has(&*cluster.group(leader).view(), "lost"));
}

/// The old leader goes on answering under its lease for a moment; that must be over before the new one
/// can have changed anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_before_another_leader_changes_anything() {
    let cluster = Cluster::start(3, timings()).await;
    for round in 0..3 {
        let old = cluster.leader().await;
        let reader = cluster.group(old).clone();
        let reads = tokio::spawn(async move {
            // When the last read that was allowed had begun.
            let mut last = Instant::now();
            loop {
                let begun = Instant::now();
                match tokio::time::timeout(Duration::from_millis(100), reader.linearize()).await {
                    Ok(Ok(())) => last = begun,
                    Ok(Err(_)) | Err(_) => return last,
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        let cut = Instant::now();
        cluster.isolate(old, true);
        let new = cluster.leader_but(&[old]).await;
        propose(cluster.group(new), &format!("behind its back {round}")).await.unwrap();
        let changed = Instant::now();
        let last = reads.await.unwrap();
        assert!(last < changed, "a read began {:?} after the change and was allowed", last - changed);
        assert!(last > cut, "it read without asking for a moment");
        cluster.isolate(old, false);
        cluster.assert_equal(new).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_share_rounds_and_see_what_was_acknowledged() {
    let cluster = Cluster::start(3, timings()).await;
    let leader = cluster.leader().await;
    let group = cluster.group(leader).clone();
    let start = Instant::now();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let group: Arc<_> = group.clone();
            tokio::spawn(async move {
                for number in 0..50 {
                    let name = format!("{task}-{number}");
                    propose(&group, &name).await.unwrap();
                    group.linearize().await.unwrap();
                    assert!(has(&*group.view(), &name));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    eprintln!("400 writes and 400 reads of 8 callers in {:?}", start.elapsed());
    let start = Instant::now();
    for _ in 0..200 {
        group.linearize().await.unwrap();
    }
    eprintln!("a read alone takes {:?}", start.elapsed() / 200);
    let start = Instant::now();
    for number in 0..200 {
        propose(&group, &format!("alone-{number}")).await.unwrap();
    }
    eprintln!("a write alone takes {:?}", start.elapsed() / 200);
}

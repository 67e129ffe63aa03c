//! Leases over real QUIC, Raft and RocksDB: what mounts are granted, what they are asked, how long
//! others wait for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::support::{Cluster, Mount, create, lookup, name, quick, until, write};
use cairn_common::ids::InodeId;
use cairn_common::protocol::admin::{AdminReply, AdminRequest, HeldLease, LeasesOf, SessionLeaseStatus};
use cairn_common::protocol::metadata::{
    AttributeChanges, MetadataReply, MetadataRequest, Mutation, MutationResult, NewNode, OpenMode, Query, QueryResult,
    RenameMode,
};
use cairn_common::protocol::{FsError, Role, ServiceError};
use cairn_meta::lease::LeaseRules;
use cairn_meta::service::ServiceTimings;

const ROOT: InodeId = InodeId::ROOT;
const SHARED: Duration = Duration::from_millis(1000);

fn chmod(inode: InodeId, mode: u32) -> Mutation {
    Mutation::SetAttributes { inode, changes: AttributeChanges { mode: Some(mode), ..Default::default() } }
}

fn unlink(file: &str) -> Mutation {
    Mutation::Unlink { parent: ROOT, name: name(file) }
}

/// A mount that has taken the leader's generation over and keeps alive no longer.
async fn mount(cluster: &Cluster, client: &str) -> Arc<Mount> {
    let mount = Arc::new(cluster.mount(client).await);
    until("a renewal", || async { mount.keep_alive().await.unwrap().then_some(()) }).await;
    mount
}

/// Whether a lookup came with leases on the directory and on what was found.
async fn is_leased(mount: &Mount, file: &str) -> bool {
    let (answer, grant) = mount.lease(lookup(file)).await;
    let QueryResult::Attributes(_) = answer.unwrap() else { panic!() };
    grant.is_some_and(|grant| grant.generation == mount.generation() && grant.refused.is_empty())
}

async fn mode(mount: &Mount, inode: InodeId) -> u32 {
    match mount.query(Query::Attributes { inode }).await.unwrap() {
        QueryResult::Attributes(found) => found.mode,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_waits_until_the_holder_has_let_go() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (holder, changer) = (mount(&cluster, "holder").await, mount(&cluster, "changer").await);
    let _alive = holder.beat();
    let inode = holder.create("file", None).await;
    assert!(is_leased(&holder, "file").await);
    let changing = async {
        let (result, effects) = changer.mutate_in(0, chmod(inode, 0o600)).await;
        result.unwrap();
        assert_eq!(effects.changed, [inode]);
        assert_eq!(effects.held.iter().map(|held| (held.inode, held.mode)).collect::<Vec<_>>(), [(inode, 0o600)]);
        assert_eq!(effects.generation, changer.generation());
    };
    let letting_go = async {
        let asked = holder.recalls().await;
        let [(asked, ticket, false, false)] = asked[..] else { panic!("{asked:?}") };
        assert_eq!(asked, inode);
        assert_eq!(mode(&holder, inode).await, 0o644, "nothing has changed yet");
        let (answer, grant) = holder.lease(Query::Attributes { inode }).await;
        assert!(answer.is_ok() && grant.is_none(), "answered at once, without a lease");
        holder.recall_done(ticket, false).await;
    };
    tokio::join!(changing, letting_go);
    assert_eq!(mode(&holder, inode).await, 0o600);
    // The changer holds it now; what it covers it is not asked for.
    let own = MetadataRequest::Mutate { stamp: changer.stamp(), mutation: chmod(inode, 0o640), covered: vec![inode] };
    let start = Instant::now();
    assert!(matches!(changer.client.metadata(own).await, Ok(MetadataReply::Mutated { result: Ok(_), .. })));
    assert!(start.elapsed() < SHARED / 2, "{:?}", start.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_names_and_listings_are_leased_too() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (reader, maker) = (mount(&cluster, "reader").await, mount(&cluster, "maker").await);
    let (_alive, _obeys) = (reader.beat(), reader.obey(false));
    let (answer, grant) = reader.lease(lookup("absent")).await;
    assert_eq!(answer, Err(FsError::NotFound));
    assert_eq!(grant.unwrap().refused, []);
    let file = maker.create("file", None).await;
    let _makers = maker.obey(false);
    let listing = Query::ReadDirectory { inode: ROOT, after: 0, up_to: u64::MAX, limit: 100, attributes: true };
    let (Ok(QueryResult::Entries { entries, .. }), grant) = reader.lease(listing).await else { panic!() };
    assert_eq!((entries[0].inode, entries[0].attributes.is_some()), (file, true));
    assert_eq!(grant.unwrap().refused, []);
    assert_eq!(reader.lease(Query::Attributes { inode: InodeId(999) }).await, (Err(FsError::Stale), None));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_holder_costs_a_shared_lease_once() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (stopped, changer) = (mount(&cluster, "stopped").await, mount(&cluster, "changer").await);
    let _alive = changer.beat();
    let inode = stopped.create("file", None).await;
    let sent = Instant::now();
    assert!(stopped.keep_alive().await.unwrap());
    let generation = stopped.generation();
    changer.mutate(chmod(inode, 0o600)).await.unwrap();
    assert!(sent.elapsed() >= SHARED, "the stopped mount may tell the old mode until then: {:?}", sent.elapsed());
    assert!(sent.elapsed() < SHARED * 2, "{:?}", sent.elapsed());
    let start = Instant::now();
    changer.create("another", None).await;
    assert!(start.elapsed() < SHARED / 2, "all its leases went at once: {:?}", start.elapsed());
    assert!(!stopped.keep_alive().await.unwrap(), "it finds out with its next keep-alive");
    assert_ne!(stopped.generation(), generation);
    assert!(stopped.keep_alive().await.unwrap());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_keeps_alive_and_does_not_answer_loses_its_leases() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (deaf, changer) = (mount(&cluster, "deaf").await, mount(&cluster, "changer").await);
    let _alive = (deaf.beat(), changer.beat());
    let inode = deaf.create("file", None).await;
    let generation = deaf.generation();
    let start = Instant::now();
    changer.mutate(chmod(inode, 0o600)).await.unwrap();
    assert!(start.elapsed() < SHARED * 2, "{:?}", start.elapsed());
    until("the next generation", || async { (deaf.generation() != generation).then_some(()) }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_what_another_mount_holds_back() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (writer, reader) = (mount(&cluster, "writer").await, mount(&cluster, "reader").await);
    let _alive = (writer.beat(), reader.beat());
    let inode = writer.create("shared", Some(OpenMode::Write)).await;
    assert_eq!(writer.size(inode).await, 0, "the writer does not wait for itself");
    let listing = Query::ReadDirectory { inode: ROOT, after: 0, up_to: u64::MAX, limit: 100, attributes: true };
    let (Ok(QueryResult::Entries { entries, .. }), grant) = reader.lease(listing).await else { panic!() };
    assert_eq!((entries[0].inode, entries[0].attributes), (inode, None), "a listing does not wait");
    assert_eq!(grant.unwrap().refused, [inode]);
    let asking = async {
        let (answer, grant) = reader.lease(lookup("shared")).await;
        let QueryResult::Attributes(found) = answer.unwrap() else { panic!() };
        assert_eq!(grant.unwrap().refused, []);
        found.size
    };
    let flushing = async {
        let asked = writer.recalls().await;
        let [(asked, ticket, true, false)] = asked[..] else { panic!("{asked:?}") };
        assert_eq!(asked, inode);
        writer.mutate(write(inode, b"held back")).await.unwrap();
        writer.mutate(Mutation::GiveUpExclusive { inodes: vec![inode] }).await.unwrap();
        writer.recall_done(ticket, true).await;
    };
    let (size, ()) = tokio::join!(asking, flushing);
    assert_eq!(size, 9);
    // Now the reader is asked before the writer gets the lease again.
    let _obeys = reader.obey(false);
    match writer.mutate(Mutation::AcquireExclusive { inode }).await.unwrap() {
        MutationResult::Opened { exclusive: true, attributes, .. } => assert_eq!(attributes.size, 9),
        other => panic!("{other:?}"),
    }
    let _obeys = (writer.obey(true), _obeys);
    reader.mutate(chmod(inode, 0o600)).await.unwrap();
    match writer.mutate(Mutation::AcquireExclusive { inode }).await.unwrap() {
        MutationResult::Opened { exclusive: true, .. } => {}
        other => panic!("{other:?}"),
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_holder_that_does_nothing_is_evicted() {
    let leases = LeaseRules { exclusive: Duration::from_millis(1500), ..LeaseRules::default() };
    let mut cluster = Cluster::start(1, ServiceTimings { leases, ..quick() }).await;
    let (stopped, deaf) = (mount(&cluster, "stopped").await, mount(&cluster, "deaf").await);
    let reader = mount(&cluster, "reader").await;
    let _alive = (deaf.beat(), reader.beat());
    let obey = (stopped.obey(false), deaf.obey(false));
    let one = stopped.create("one", Some(OpenMode::Write)).await;
    let two = deaf.create("two", Some(OpenMode::Write)).await;
    drop(obey);
    let sent = Instant::now();
    assert!(stopped.keep_alive().await.unwrap());
    assert_eq!(reader.size(one).await, 0);
    assert!(sent.elapsed() >= Duration::from_millis(1500), "{:?}", sent.elapsed());
    assert!(sent.elapsed() < Duration::from_millis(3000), "{:?}", sent.elapsed());
    assert_eq!(stopped.keep_alive().await, Err(ServiceError::SessionFenced { session: stopped.session }));
    let late = stopped.client.metadata(stopped.change(write(one, b"late"))).await;
    assert_eq!(late, Err(ServiceError::SessionFenced { session: stopped.session }));
    // One that keeps alive gets no longer.
    let start = Instant::now();
    assert_eq!(reader.size(two).await, 0);
    assert!(start.elapsed() < Duration::from_millis(4000), "{:?}", start.elapsed());
    assert_eq!(deaf.keep_alive().await, Err(ServiceError::SessionFenced { session: deaf.session }));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_unlinks_of_the_last_two_names_keep_a_file_that_is_open() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (opener, one, two) =
        (mount(&cluster, "opener").await, mount(&cluster, "one").await, mount(&cluster, "two").await);
    let _run = (opener.beat(), opener.obey(true), one.beat(), one.obey(false), two.beat(), two.obey(false));
    for round in 0..8 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        let inode = one.create(&a, None).await;
        one.mutate(Mutation::Link { inode, parent: ROOT, name: name(&b) }).await.unwrap();
        opener.lease(Query::Attributes { inode }).await.0.unwrap();
        // Each plans while the other's name is still there, and waits for the opener's answer.
        let (first, second) = tokio::join!(one.mutate(unlink(&a)), two.mutate(unlink(&b)));
        assert_eq!((first, second), (Ok(MutationResult::Done), Ok(MutationResult::Done)));
        assert_eq!(opener.size(inode).await, 0, "round {round}: the opener still reads it");
        opener.mutate(Mutation::Release { opens: vec![(inode, OpenMode::Read)] }).await.unwrap();
        assert_eq!(opener.query(Query::Attributes { inode }).await, Err(FsError::Stale), "round {round}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_with_its_last_name_when_nobody_has_it_open() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (holder, remover) = (mount(&cluster, "holder").await, mount(&cluster, "remover").await);
    let _run = (holder.beat(), holder.obey(false), remover.beat());
    let inode = holder.create("file", None).await;
    remover.mutate(unlink("file")).await.unwrap();
    assert_eq!(holder.query(Query::Attributes { inode }).await, Err(FsError::Stale));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_that_move_things_to_and_fro_do_not_block_each_other() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (one, two) = (mount(&cluster, "one").await, mount(&cluster, "two").await);
    let _run = (one.beat(), one.obey(true), two.beat(), two.obey(true));
    let mut directories = Vec::new();
    for directory in ["d1", "d2"] {
        let Mutation::Create { parent, name, mode, umask, uid, gid, exclusive, open, .. } = create(directory, None)
        else {
            panic!()
        };
        let node = NewNode::Directory;
        let make =
            Mutation::Create { parent, name, node, mode, umask, uid, gid, exclusive, open, exclusive_lease: false };
        match one.mutate(make).await.unwrap() {
            MutationResult::Node { attributes, .. } => directories.push(attributes.inode),
            other => panic!("{other:?}"),
        }
    }
    let rename = |from: InodeId, to: InodeId, file: &str| Mutation::Rename {
        parent: from,
        name: name(file),
        new_parent: to,
        new_name: name(file),
        mode: RenameMode::Replace,
    };
    let (d1, d2) = (directories[0], directories[1]);
    one.create("x", None).await;
    two.create("y", None).await;
    one.mutate(rename(ROOT, d1, "x")).await.unwrap();
    two.mutate(rename(ROOT, d2, "y")).await.unwrap();
    let generations = (one.generation(), two.generation());
    let fro = |mount: Arc<Mount>, here: InodeId, there: InodeId, file: &'static str| async move {
        for _ in 0..100 {
            mount.lease(Query::Lookup { parent: here, name: name(file) }).await.0.unwrap();
            mount.mutate(rename(here, there, file)).await.unwrap();
            mount.lease(Query::Lookup { parent: there, name: name(file) }).await.0.unwrap();
            mount.mutate(rename(there, here, file)).await.unwrap();
        }
    };
    let start = Instant::now();
    tokio::join!(fro(one.clone(), d1, d2, "x"), fro(two.clone(), d2, d1, "y"));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!((one.generation(), two.generation()), generations, "nobody was given up");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_bounces_is_leased_to_nobody_for_a_while() {
    let mut cluster = Cluster::start(1, quick()).await;
    let (one, two) = (mount(&cluster, "one").await, mount(&cluster, "two").await);
    let _run = (one.beat(), one.obey(true), two.beat(), two.obey(true));
    let inode = one.create("file", Some(OpenMode::Write)).await;
    two.mutate(Mutation::Open { inode, mode: OpenMode::Write, exclusive_lease: false }).await.unwrap();
    let mut taken = Vec::new();
    for round in 0..10 {
        let taker = if round % 2 == 0 { &one } else { &two };
        match taker.mutate(Mutation::AcquireExclusive { inode }).await.unwrap() {
            MutationResult::Opened { exclusive, .. } => taken.push(exclusive),
            other => panic!("{other:?}"),
        }
    }
    assert!(taken[0] && taken[9..] == [false], "{taken:?}");
    assert!(one.lease(Query::Attributes { inode }).await.1.is_none());
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(one.lease(Query::Attributes { inode }).await.1.is_some(), "the quarrel is over");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_changes_nothing_before_all_mounts_have_come() {
    let mut cluster = Cluster::start(3, quick()).await;
    let (one, two) = (mount(&cluster, "one").await, mount(&cluster, "two").await);
    let inode = one.create("file", None).await;
    let renewed = |mount: &Arc<Mount>| {
        let mount = mount.clone();
        async move {
            until("a renewal", || async { matches!(mount.keep_alive().await, Ok(true)).then_some(()) }).await;
            Instant::now()
        }
    };
    renewed(&one).await;
    cluster.stop_node(cluster.leader().await).await;
    // Both come: the change waits for nobody else.
    tokio::join!(renewed(&one), renewed(&two));
    assert!(is_leased(&one, "file").await);
    let reclaim = MetadataRequest::Reclaim { session: two.session, inodes: vec![inode, InodeId(999)] };
    match two.client.metadata(reclaim).await.unwrap() {
        MetadataReply::Reclaimed { held, generation, .. } => {
            assert_eq!((held.len(), held[0].inode, generation), (1, inode, two.generation()));
        }
        other => panic!("{other:?}"),
    }
    let _obeys = one.obey(false);
    let start = Instant::now();
    one.create("early", None).await;
    assert!(start.elapsed() < SHARED / 2, "{:?}", start.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_waits_a_shared_lease_for_mounts_that_do_not_come() {
    let mut cluster = Cluster::start(3, quick()).await;
    let (one, absent) = (mount(&cluster, "one").await, mount(&cluster, "absent").await);
    let inode = absent.create("file", None).await;
    let sent = Instant::now();
    assert!(absent.keep_alive().await.unwrap());
    cluster.stop_node(cluster.leader().await).await;
    until("a renewal", || async { matches!(one.keep_alive().await, Ok(true)).then_some(()) }).await;
    let (came, _alive) = (Instant::now(), one.beat());
    assert_eq!(mode(&one, inode).await, 0o644, "questions are answered at once");
    assert!(came.elapsed() < SHARED / 2, "{:?}", came.elapsed());
    one.mutate(unlink("file")).await.unwrap();
    assert!(sent.elapsed() > SHARED, "the absent mount may tell the name until then");
    assert!(came.elapsed() > SHARED / 3, "{:?} since the leader was there", came.elapsed());
    assert!(came.elapsed() < SHARED * 2, "{:?}", came.elapsed());
    // Nobody knows whether it has the file open, so it counts as having it open.
    assert_eq!(one.size(inode).await, 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_leases_and_ends_sessions() {
    let leases = LeaseRules { exclusive: Duration::from_millis(400), ..LeaseRules::default() };
    let mut cluster = Cluster::start(1, ServiceTimings { leases, ..quick() }).await;
    let (one, two) = (mount(&cluster, "one").await, mount(&cluster, "two").await);
    let _alive = (one.beat(), two.beat(), two.obey(false));
    let inode = one.create("file", Some(OpenMode::Write)).await;
    let admin = cluster.client(Role::Admin, "root");
    let ask = |of: LeasesOf| async {
        match admin.admin(AdminRequest::Leases(of)).await? {
            AdminReply::Leases(report) => Ok::<_, ServiceError>(*report),
            other => panic!("{other:?}"),
        }
    };
    let all = ask(LeasesOf::Cluster).await.unwrap();
    let told = |status: &SessionLeaseStatus| (status.session, status.checked_in, status.exclusive, status.shared);
    assert_eq!(
        all.sessions.iter().map(told).collect::<Vec<_>>(),
        [(one.session, true, 1, 2), (two.session, true, 0, 0)]
    );
    let of_path = ask(LeasesOf::Path(b"/file".to_vec())).await.unwrap().inode.unwrap();
    assert_eq!((of_path.inode, of_path.exclusive, of_path.shared), (inode, Some(one.session), vec![one.session]));
    let held = ask(LeasesOf::Session(one.session)).await.unwrap().held;
    assert!(held.contains(&HeldLease { inode, exclusive: true }) && held.len() == 3, "{held:?}");
    assert!(matches!(ask(LeasesOf::Path(b"/absent".to_vec())).await, Err(ServiceError::Invalid { .. })));
    let evict = |session| admin.admin(AdminRequest::EvictSession { session });
    assert_eq!(evict(one.session).await, Ok(AdminReply::Done));
    assert_eq!(one.keep_alive().await, Err(ServiceError::SessionFenced { session: one.session }));
    assert_eq!(ask(LeasesOf::Path(b"file".to_vec())).await.unwrap().inode.unwrap().exclusive, None);
    assert!(matches!(evict(one.session).await, Err(ServiceError::Invalid { .. })), "it is gone");
    cluster.stop().await;
}

//! A server whose folder is gone: a chunk server is filled again by itself, a metadata server is
//! replaced by a new member under a new number. Nothing that was acknowledged is lost.

use std::fs;
use std::time::Duration;

use cairn_cluster_tests::harness::{DevCluster, Seed, size, wait_for};
use cairn_cluster_tests::oracle::tree;

#[test]
fn wiped_chunk_server_is_filled_again() {
    let seed = Seed::new("wiped_chunk_server");
    let cluster = DevCluster::start();
    let source = cluster.outside().join("source");
    tree::generate(&source, size("CAIRN_REFILL_FILES", 150), &mut seed.rng(0)).expect("source tree");
    let copy = cluster.mount(1).join("copy");
    assert_eq!(tree::copy(&source, &copy), (true, String::new()));
    cluster.wait_healthy();
    let blocks = |name: &str| -> u64 {
        let status = cluster.status();
        let node = status.nodes.iter().find(|node| node.name == name && !node.disks.is_empty());
        node.map_or(0, |node| node.disks.iter().map(|disk| disk.blocks).sum())
    };
    let before = blocks("chunk1");
    assert!(before > 20, "chunk1 has only {before} blocks");
    cluster.kill9("chunk1");
    fs::remove_dir_all(cluster.data().join("chunk1")).expect("wipe");
    tree::assert_same(&source, &copy, "with chunk1 lost");
    cluster.up();
    wait_for("chunk1 to be filled again", Duration::from_secs(120), || (blocks("chunk1") >= before).then_some(()));
    // Its replicas are as good as the others': they alone can be read.
    wait_for("all replicas", Duration::from_secs(60), || {
        cluster.try_status().is_some_and(|status| status.under_replicated == Some(0)).then_some(())
    });
    cluster.kill9("chunk2");
    tree::assert_same(&source, &copy, "with chunk1 filled again and chunk2 dead");
    cluster.up();
}

#[test]
fn wiped_metadata_server_is_replaced() {
    let seed = Seed::new("wiped_metadata_server");
    let cluster = DevCluster::start();
    let source = cluster.outside().join("source");
    tree::generate(&source, 150, &mut seed.rng(0)).expect("source tree");
    let copy = cluster.mount(1).join("copy");
    assert_eq!(tree::copy(&source, &copy), (true, String::new()));
    let lost = cluster.leader();
    cluster.kill9(&lost);
    fs::remove_dir_all(cluster.data().join(&lost)).expect("wipe");
    // It forgot its votes: it must not come back as if nothing had happened.
    let up = cluster.cairnctl(Duration::from_secs(60), &["up"], &[]);
    assert!(!up.status.success(), "dev up starts an emptied metadata server");
    assert!(String::from_utf8_lossy(&up.stderr).contains("replace"), "and says what to do: {up:?}");
    let replace = cluster.cairnctl(Duration::from_secs(90), &["replace"], std::slice::from_ref(&lost));
    assert!(replace.status.success(), "{}", String::from_utf8_lossy(&replace.stderr));
    wait_for("the new member to catch up", Duration::from_secs(60), || {
        let status = cluster.try_status()?;
        let node = status.nodes.iter().find(|node| node.name == lost && node.state == "up")?;
        node.lag_entries.is_none_or(|lag| lag < 100).then_some(())
    });
    // It counts: with it and one other there is a quorum.
    let other = cluster.servers().into_iter().find(|name| name.starts_with("meta") && *name != lost).expect("three");
    cluster.kill9(&other);
    fs::write(cluster.mount(1).join("after"), b"after").expect("write with the new member");
    tree::assert_same(&source, &copy, "with a new member");
    cluster.up();
}

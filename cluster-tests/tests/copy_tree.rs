//! Shown by 1: a copied tree is the same tree: at once, after the kernel forgot it, after the
//! cluster was stopped and started, and from a second mount.

use cairn_cluster_tests::harness::{DevCluster, Seed, drop_caches, size};
use cairn_cluster_tests::oracle::tree;

#[test]
fn copied_tree_is_the_same_everywhere_and_after_a_restart() {
    let seed = Seed::new("copy_tree");
    let cluster = DevCluster::start();
    let source = cluster.outside().join("source");
    tree::generate(&source, size("CAIRN_TREE_FILES", 1_000), &mut seed.rng(0)).expect("source tree");
    let copy = cluster.mount(1).join("copy");

    let (ok, said) = tree::copy(&source, &copy);
    assert!(ok, "cp -a failed: {said}");
    tree::assert_same(&source, &copy, "after the copy");
    drop_caches();
    tree::assert_same(&source, &copy, "after dropping caches");
    let second = cluster.add_mount();
    tree::assert_same(&source, &second.join("copy"), "from a second mount");
    cluster.down();
    cluster.up();
    tree::assert_same(&source, &copy, "after dev down and dev up");
    tree::assert_same(&source, &second.join("copy"), "from the second mount after the restart");

    // And everything can be taken away again.
    std::fs::remove_dir_all(&copy).expect("rm -r");
    assert_eq!(std::fs::read_dir(&second).expect("readdir").count(), 0, "the second mount sees it gone");
}

/// The embedded form: one metadata server, one chunk server, one replica.
#[test]
fn smallest_cluster_keeps_a_tree() {
    use cairn_cluster_tests::harness::Shape;
    let seed = Seed::new("smallest_cluster");
    let cluster = DevCluster::with_shape(Shape { meta: 1, chunk: 1, replicas: 1, ..Shape::STANDARD });
    let source = cluster.outside().join("source");
    tree::generate(&source, 100, &mut seed.rng(0)).expect("source tree");
    let copy = cluster.mount(1).join("copy");
    assert_eq!(tree::copy(&source, &copy), (true, String::new()));
    cluster.down();
    cluster.up();
    tree::assert_same(&source, &copy, "after dev down and dev up");
}

/// Two clusters live side by side and know nothing of each other.
#[test]
fn clusters_side_by_side_do_not_meet() {
    use cairn_cluster_tests::harness::Shape;
    let shape = Shape { meta: 1, chunk: 1, replicas: 1, ..Shape::STANDARD };
    let (one, two) = (DevCluster::with_shape(shape), DevCluster::with_shape(shape));
    std::fs::write(one.mount(1).join("file"), b"one").expect("write");
    std::fs::write(two.mount(1).join("file"), b"two").expect("write");
    one.down();
    assert_eq!(std::fs::read(two.mount(1).join("file")).expect("read"), b"two");
    one.up();
    assert_eq!(std::fs::read(one.mount(1).join("file")).expect("read"), b"one");
}

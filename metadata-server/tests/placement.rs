//! Properties of the placement, over random clusters: balance, least movement, spread, determinism.

use std::collections::{BTreeMap, BTreeSet};

use cairn_common::ids::{ChunkNodeId, DiskId};
use proptest::prelude::*;

use cairn_meta::placement::{PlacementDisk, assign};

type Rows = Vec<Vec<DiskId>>;

/// Nodes with weights and domains; disk ids are node * 100 + number.
fn cluster(nodes: &[(u32, u64, u32, u32)]) -> Vec<PlacementDisk> {
    nodes
        .iter()
        .flat_map(|(node, weight, domain, disks)| {
            (0..*disks).map(move |disk| PlacementDisk {
                disk: DiskId(node * 100 + disk),
                node: ChunkNodeId(*node),
                failure_domain: format!("domain-{domain}"),
                weight: *weight,
            })
        })
        .collect()
}

fn loads(rows: &Rows) -> BTreeMap<DiskId, u64> {
    let mut loads = BTreeMap::new();
    rows.iter().flatten().for_each(|disk| *loads.entry(*disk).or_default() += 1);
    loads
}

/// Largest and smallest load over the disk's share of the weight.
fn extremes(disks: &[PlacementDisk], rows: &Rows) -> (f64, f64) {
    let loads = loads(rows);
    let total: u64 = rows.iter().map(|row| row.len() as u64).sum();
    let weight: u64 = disks.iter().map(|disk| disk.weight).sum();
    let over = |disk: &PlacementDisk| {
        let fair = total as f64 * disk.weight as f64 / weight as f64;
        loads.get(&disk.disk).copied().unwrap_or(0) as f64 / fair
    };
    disks.iter().map(over).fold((0.0f64, f64::MAX), |(most, least), x| (most.max(x), least.min(x)))
}

/// Replicas of `after` that were not owners before, and the rows that changed.
fn moved(before: &Rows, after: &Rows) -> (u64, Vec<usize>) {
    let new = |row: usize| after[row].iter().filter(|disk| !before[row].contains(disk)).count() as u64;
    ((0..after.len()).map(new).sum(), (0..after.len()).filter(|row| before[*row] != after[*row]).collect())
}

fn distinct<T: Ord>(items: impl Iterator<Item = T>) -> usize {
    items.collect::<BTreeSet<_>>().len()
}

fn check_spread(disks: &[PlacementDisk], rows: &Rows, replicas: usize) {
    let by_id: BTreeMap<DiskId, &PlacementDisk> = disks.iter().map(|disk| (disk.disk, disk)).collect();
    let domains = distinct(disks.iter().map(|disk| &disk.failure_domain));
    let nodes = distinct(disks.iter().map(|disk| disk.node));
    for row in rows {
        let owners: Vec<_> = row.iter().map(|disk| by_id[disk]).collect();
        assert_eq!(row.len(), replicas.min(disks.len()), "owners of a row");
        assert_eq!(distinct(row.iter()), row.len(), "distinct disks: {row:?}");
        if domains >= replicas {
            assert_eq!(distinct(owners.iter().map(|disk| &disk.failure_domain)), replicas, "domains of {row:?}");
        }
        if nodes >= replicas {
            assert_eq!(distinct(owners.iter().map(|disk| disk.node)), replicas, "nodes of {row:?}");
        }
    }
}

/// 100 nodes in 100, 20 or 10 domains, weights 1 to 8.
fn hundred_nodes() -> impl Strategy<Value = Vec<(u32, u64, u32, u32)>> {
    (prop::collection::vec(100u64..=800, 100), prop::sample::select(vec![100u32, 20, 10]), 1u32..=2).prop_map(
        |(weights, domains, disks)| {
            (0..100u32).zip(weights).map(|(node, weight)| (node, weight, node % domains, disks)).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn load_is_even_at_100_nodes_with_unequal_weights(nodes in hundred_nodes()) {
        let disks = cluster(&nodes);
        let rows = assign(&disks, 16_384, 3, &[]);
        check_spread(&disks, &rows, 3);
        let (most, least) = extremes(&disks, &rows);
        prop_assert!(most <= 1.1, "max/mean {most}");
        prop_assert!(least >= 0.9, "min/mean {least}");
    }

    #[test]
    fn a_joining_node_takes_its_share_and_no_more(nodes in hundred_nodes(), weight in 100u64..=800) {
        let disks = cluster(&nodes);
        let before = assign(&disks, 16_384, 3, &[]);
        let mut more = nodes.clone();
        more.push((100, weight, 0, 1));
        let disks = cluster(&more);
        let after = assign(&disks, 16_384, 3, &before);
        let share = 3.0 * 16_384.0 * weight as f64 / disks.iter().map(|disk| disk.weight).sum::<u64>() as f64;
        let (replicas, rows) = moved(&before, &after);
        prop_assert!(replicas as f64 <= share * 1.2, "moved {replicas}, share {share}");
        prop_assert!(replicas as f64 >= share * 0.9, "moved {replicas}, share {share}");
        for row in rows {
            let kept = after[row].iter().filter(|disk| before[row].contains(disk)).count();
            prop_assert_eq!(kept, 2, "row {} keeps all but one", row);
        }
        check_spread(&disks, &after, 3);
        prop_assert!(extremes(&disks, &after).0 <= 1.1);
    }

    #[test]
    fn only_rows_of_a_leaving_node_move(nodes in hundred_nodes(), gone in 0u32..100) {
        let disks = cluster(&nodes);
        let before = assign(&disks, 16_384, 3, &[]);
        let rest: Vec<_> = disks.iter().filter(|disk| disk.node.0 != gone).cloned().collect();
        let after = assign(&rest, 16_384, 3, &before);
        let lost = before.iter().flatten().filter(|disk| disk.0 / 100 == gone).count() as f64;
        let (replicas, _) = moved(&before, &after);
        prop_assert!(replicas as f64 >= lost && replicas as f64 <= lost * 1.2, "moved {replicas}, lost {lost}");
        check_spread(&rest, &after, 3);
        prop_assert!(extremes(&rest, &after).0 <= 1.1);
    }
}

proptest! {
    #[test]
    fn rules_hold_for_small_and_lopsided_clusters(
        nodes in prop::collection::vec((1u64..=50, 0u32..5, 1u32..=3), 1..9),
        replicas in 1u8..=4,
        lost in any::<prop::sample::Index>(),
    ) {
        let nodes: Vec<_> = (0u32..).zip(&nodes).map(|(node, (w, domain, disks))| (node, *w, *domain, *disks)).collect();
        let disks = cluster(&nodes);
        let rows = assign(&disks, 256, replicas, &[]);
        check_spread(&disks, &rows, usize::from(replicas));
        prop_assert_eq!(&assign(&disks, 256, replicas, &[]), &rows, "deterministic");
        let mut shuffled = disks.clone();
        shuffled.reverse();
        prop_assert_eq!(&assign(&shuffled, 256, replicas, &[]), &rows, "whatever the order of the disks");
        prop_assert_eq!(&assign(&disks, 256, replicas, &rows), &rows, "nothing moves when nothing changes");
        let mut rest = disks.clone();
        let gone = rest.remove(lost.index(disks.len())).disk;
        let after = assign(&rest, 256, replicas, &rows);
        check_spread(&rest, &after, usize::from(replicas));
        prop_assert!(after.iter().flatten().all(|disk| *disk != gone));
        let back = assign(&disks, 256, replicas, &after);
        check_spread(&disks, &back, usize::from(replicas));
    }
}

#[test]
fn a_wiped_node_of_three_hands_its_rows_to_its_successor_alone() {
    let before = assign(&cluster(&[(1, 9, 1, 1), (2, 9, 2, 1), (3, 9, 3, 1)]), 1024, 3, &[]);
    let after = assign(&cluster(&[(1, 9, 1, 1), (4, 9, 2, 1), (3, 9, 3, 1)]), 1024, 3, &before);
    for (old, new) in before.iter().zip(&after) {
        let expected: Vec<_> = old.iter().map(|disk| if disk.0 == 200 { DiskId(400) } else { *disk }).collect();
        assert_eq!(new, &expected, "the new disk stands where the lost one stood");
    }
}

#[test]
fn no_disk_gives_no_owner() {
    assert_eq!(assign(&[], 4, 3, &[]), vec![Vec::<DiskId>::new(); 4]);
}

#[test]
fn a_thousand_nodes_take_seconds() {
    let nodes: Vec<_> = (0..1000u32).map(|node| (node, 100 + u64::from(node % 7) * 50, node, 2)).collect();
    let disks = cluster(&nodes);
    let start = std::time::Instant::now();
    let rows = assign(&disks, 65_536, 3, &[]);
    let grown: Vec<_> = nodes.iter().copied().chain([(1000, 300, 1000, 2)]).collect();
    let after = assign(&cluster(&grown), 65_536, 3, &rows);
    let spent = start.elapsed();
    assert!(extremes(&disks, &rows).0 <= 1.1);
    assert!(moved(&rows, &after).0 <= 300);
    assert!(spent.as_secs() < 9, "took {spent:?}");
}

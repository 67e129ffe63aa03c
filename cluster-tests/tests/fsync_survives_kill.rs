//! Shown by 3: writers that fsync, and kill -9 of every process at random moments: what fsync
//! acknowledged is there, whole; nothing is there that was never written; and of what was not
//! synced the newest is lost, not the middle. Then the same with the power gone.

use std::time::Duration;

use cairn_cluster_tests::harness::{DevCluster, Seed, Shape, size};
use cairn_cluster_tests::oracle::journal::Journal;
use rand::Rng;
use rand::seq::SliceRandom;

/// Threads that write.
const WRITERS: u64 = 3;

fn rounds(what: &str, rounds: usize, amnesia: bool) {
    let seed = Seed::new(what);
    let cluster = DevCluster::with_shape(Shape { amnesia, ..Shape::STANDARD });
    let mut journals: Vec<Journal> = (0..WRITERS)
        .map(|writer| Journal::new(&cluster.mount(1).join(format!("writer{writer}"))).expect("the cluster works"))
        .collect();
    let mut losses = (0, 0);
    for round in 0..rounds {
        let mut rng = seed.rng(round as u64);
        let delay = Duration::from_millis(rng.random_range(20..1_500));
        let mut order = cluster.everything();
        order.shuffle(&mut rng);
        std::thread::scope(|scope| {
            for (writer, journal) in journals.iter_mut().enumerate() {
                let mut rng = seed.rng((round as u64) << 8 | (writer as u64 + 1));
                scope.spawn(move || journal.write_until_error(&mut rng));
            }
            std::thread::sleep(delay);
            cluster.kill9_all(&order);
        });
        if amnesia {
            let loss = cluster.amnesia().lose_power(rng.random());
            losses = (losses.0 + loss.operations_lost, losses.1 + loss.bytes_lost);
        }
        cluster.up();
        let faults: Vec<String> = journals.iter_mut().flat_map(Journal::check).collect();
        assert!(
            faults.is_empty(),
            "{what}, round {round}, killed after {delay:?} in the order {order:?}: {} faults:\n{}",
            faults.len(),
            faults[..faults.len().min(20)].join("\n")
        );
    }
    let acknowledged: u64 = journals.iter().map(Journal::acknowledged).sum();
    eprintln!("{what}: {rounds} rounds, {acknowledged} fsyncs acknowledged, all found");
    assert!(acknowledged > rounds as u64, "the writers hardly wrote: the test shows nothing");
    if amnesia {
        eprintln!("{what}: the losses of power took {} operations and {} bytes", losses.0, losses.1);
        assert!(losses.1 > 0, "no power loss took anything: the test shows nothing");
    }
}

#[test]
fn fsync_survives_kill_of_every_process() {
    rounds("kill of everything", size("CAIRN_ROUNDS", 8), false);
}

#[test]
fn fsync_survives_power_loss() {
    rounds("power loss", size("CAIRN_POWER_ROUNDS", 5), true);
}

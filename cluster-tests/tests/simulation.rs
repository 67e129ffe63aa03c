//! A fresh batch of simulated clusters, and proof that the simulation finds bugs: each planted one
//! within a stated number of seeds. `CAIRN_SIMULATED_SEEDS` and `CAIRN_SIMULATED_SECONDS` set the size
//! of the batch (it ends at whichever comes first), `CAIRN_SEED` its first seed.

use std::process::Command;

fn simulate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cairn-simulate")).args(arguments).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("cairn-simulate {}\n{said}{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// Prints its seeds; three of them are run twice, and must leave the same trace.
#[test]
fn a_fresh_batch_of_seeds_breaks_nothing() {
    let (seeds, seconds) = (setting("CAIRN_SIMULATED_SEEDS", "60"), setting("CAIRN_SIMULATED_SECONDS", "45"));
    let mut arguments = vec!["run", "--seeds", &seeds, "--seconds", &seconds];
    let first = std::env::var("CAIRN_SEED");
    if let Ok(first) = &first {
        arguments.extend(["--first", first]);
    }
    let (well, said) = simulate(&arguments);
    assert!(well, "violations, or a seed whose runs differ; see above");
    assert!(said.contains("no violation"), "it says so");
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    let first = simulate(&["replay", "7"]);
    assert!(first.1.contains("trace"), "it prints the hash");
    assert_eq!(first, simulate(&["replay", "7"]));
    assert_ne!(first, simulate(&["replay", "8"]));
}

/// A planted bug and the seeds within which it must be found.
fn is_found(planted: &str, seeds: &str) {
    let (found, said) = simulate(&["run", "--first", "1", "--seeds", seeds, "--planted", planted]);
    assert!(found && said.contains("found by seed"), "{planted} was not found within {seeds} seeds");
}

#[test]
fn a_chunk_server_that_acknowledges_before_fdatasync_is_found() {
    is_found("ack-before-sync", "5");
}

#[test]
fn a_raft_log_that_acknowledges_before_the_sync_is_found() {
    is_found("log-ack-before-sync", "5");
}

#[test]
fn a_snapshot_without_slots_is_found() {
    is_found("snapshot-without-slots", "20");
}

#[test]
fn a_fenced_flush_that_is_accepted_is_found() {
    is_found("fenced-flush-accepted", "60");
}

#[test]
fn a_grant_between_check_and_apply_is_found() {
    is_found("grant-between-check-and-apply", "10");
}

#[test]
fn a_new_leader_that_does_not_wait_is_found() {
    is_found("no-wait-after-failover", "400");
}

#[test]
fn a_lifetime_longer_than_the_lease_is_found() {
    is_found("ttl-longer-than-lease", "120");
}

#[test]
fn a_recall_that_is_answered_before_the_flush_is_found() {
    is_found("recall-answered-early", "10");
}

#[test]
fn a_lease_that_ends_without_a_recall_is_found() {
    is_found("lease-ends-silently", "60");
}

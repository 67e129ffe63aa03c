//! What locks are for: programs on two mounts that change one file, and lose nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cairn_cluster_tests::harness::{DevCluster, Locker, size};

const BOUND: Duration = Duration::from_secs(600);

/// Two processes on each of two mounts count up in one file, each under its lock.
pub(super) fn count(one: &Path, two: &Path, how: &str, rounds: u64, meanwhile: impl FnOnce()) {
    let name = format!("counter-{how}");
    fs::write(one.join(&name), 0_u64.to_le_bytes()).expect("write");
    let mut lockers: Vec<Locker> = (0..4).map(|_| Locker::start()).collect();
    let begun = Instant::now();
    for (number, locker) in lockers.iter_mut().enumerate() {
        let path = if number % 2 == 0 { one } else { two }.join(&name);
        locker.tell(&format!("count {how} {rounds} {}", path.display()));
    }
    meanwhile();
    for locker in &lockers {
        assert_eq!(locker.answer(BOUND).as_deref(), Some("ok"), "a counter under {how}");
    }
    let took = begun.elapsed();
    let bytes = fs::read(two.join(&name)).expect("read");
    let total = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    eprintln!("locks: {total} of {} counted under {how} in {took:?}", 4 * rounds);
    assert_eq!(total, 4 * rounds, "counts were lost under {how}");
}

#[test]
fn nothing_is_lost_under_a_lock() {
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    for how in ["flock", "posix", "ofd"] {
        count(&one, &two, how, size("CAIRN_LOCK_COUNTS", 100) as u64, || {});
    }
}

const SQLITE: &str = "
import sqlite3, sys
path, rounds = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(path, timeout=300, isolation_level=None)
for _ in range(rounds):
    db.execute('begin immediate')
    (value,) = db.execute('select value from counter').fetchone()
    db.execute('update counter set value = ?', (value + 1,))
    db.execute('commit')
";

/// A real program that locks: a database that two mounts write at once. Left out where Python is not.
#[test]
fn sqlite_on_two_mounts_loses_no_transaction() {
    let has_sqlite = Command::new("python3").args(["-c", "import sqlite3"]).status();
    if !has_sqlite.is_ok_and(|status| status.success()) {
        eprintln!("locks: no Python with sqlite3 here");
        return;
    }
    let rounds = size("CAIRN_LOCK_TRANSACTIONS", 30);
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    let python = |path: &Path, script: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(path).arg(rounds.to_string());
        command
    };
    let make = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
        db.execute('create table counter (value integer)'); db.execute('insert into counter values (0)'); db.commit()";
    assert!(python(&one.join("db"), make).status().expect("python").success());
    let begun = Instant::now();
    let writers: Vec<_> = [&one, &two, &one, &two]
        .into_iter()
        .map(|mount| python(&mount.join("db"), SQLITE).spawn().expect("python"))
        .collect();
    for mut writer in writers {
        assert!(writer.wait().expect("python").success(), "a transaction failed");
    }
    let took = begun.elapsed();
    let check = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
        assert db.execute('pragma integrity_check').fetchone() == ('ok',); \
        print(db.execute('select value from counter').fetchone()[0])";
    let output = python(&two.join("db"), check).output().expect("python");
    let total = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    eprintln!("locks: {total} transactions of SQLite from two mounts in {took:?}");
    assert_eq!(total, (4 * rounds).to_string());
}

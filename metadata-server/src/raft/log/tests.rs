//! The log across restarts, kills and damage.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;

use super::record::entry_key;
use super::*;
use crate::raft::types::CommandBatch;

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::impls::leader_id_std::LeaderId { term, voted_for: 1 }.to_committed(), index)
}

/// An entry whose content follows from its index.
fn entry(term: u64, index: u64) -> Entry {
    let request = cairn_common::ids::RequestId(index);
    let client = "x".repeat((index * 37 % 900) as usize);
    let action = crate::namespace::command::Action::OpenSession { client, slots: 1 };
    let command = crate::namespace::command::Command { time: Default::default(), request, action };
    let batch = CommandBatch::new(vec![command]).unwrap();
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(batch) }
}

async fn append(log: &mut RaftLog, entries: Vec<Entry>) {
    let (done, synced) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    synced.await.unwrap().unwrap();
}

async fn all(log: &RaftLog) -> Vec<Entry> {
    log.reader().try_get_log_entries(..).await.unwrap()
}

#[tokio::test]
async fn a_restart_finds_everything_after_truncation_and_purge() {
    let folder = tempfile::tempdir().unwrap();
    let vote = Vote::new(3, 1);
    {
        let mut log = RaftLog::open(folder.path()).unwrap();
        append(&mut log, (0..50).map(|index| entry(1, index)).collect()).await;
        log.truncate_after(Some(log_id(1, 39))).await.unwrap();
        append(&mut log, (40..60).map(|index| entry(2, index)).collect()).await;
        log.purge(log_id(1, 9)).await.unwrap();
        log.save_vote(&vote).await.unwrap();
        log.save_committed(Some(log_id(2, 55))).await.unwrap();
    }
    let mut log = RaftLog::open(folder.path()).unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 9)));
    assert_eq!(state.last_log_id, Some(log_id(2, 59)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(2, 55)));
    assert_eq!(log.reader().read_vote().await.unwrap(), Some(vote));
    let expected: Vec<Entry> = (10..60).map(|index| entry(if index < 40 { 1 } else { 2 }, index)).collect();
    assert_eq!(all(&log).await, expected);
    // Beyond the end, as after a snapshot: the log is empty and goes on there.
    log.purge(log_id(2, 99)).await.unwrap();
    append(&mut log, vec![entry(2, 100)]).await;
    drop(log);
    assert_eq!(all(&RaftLog::open(folder.path()).unwrap()).await, vec![entry(2, 100)]);
}

#[tokio::test]
async fn holes_and_early_purges_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = RaftLog::open(folder.path()).unwrap();
    append(&mut log, (0..5).map(|index| entry(1, index)).collect()).await;
    assert!(log.append(vec![entry(1, 6)], IOFlushed::noop()).await.is_err());
    log.limit_purge(Arc::new(|| 2));
    assert!(log.purge(log_id(1, 3)).await.is_err());
    log.purge(log_id(1, 2)).await.unwrap();
    log.shared.db.delete(entry_key(4)).unwrap();
    log.shared.db.put(entry_key(6), record::encode(&entry_key(6), &entry(1, 6)).unwrap()).unwrap();
    drop(log);
    let Err(error) = RaftLog::open(folder.path()) else { panic!("entry 4 and 5 are missing") };
    assert!(error.to_string().contains("missing"), "{error}");
}

/// What is in memory only can be read, and memory is bounded.
#[tokio::test]
async fn entries_are_readable_at_once_and_memory_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = RaftLog::open(folder.path()).unwrap();
    let request = cairn_common::ids::RequestId(1);
    let big = |index| {
        let action = crate::namespace::command::Action::OpenSession { client: "y".repeat(1 << 20), slots: 1 };
        let command = crate::namespace::command::Command { time: Default::default(), request, action };
        Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(CommandBatch::new(vec![command]).unwrap()) }
    };
    let mut synced = Vec::new();
    for index in 0..40 {
        let (done, finished) = TypeConfig::oneshot();
        log.append(vec![big(index)], IOFlushed::signal(done)).await.unwrap();
        synced.push(finished);
        let read = log.reader().try_get_log_entries(index..=index).await.unwrap();
        assert_eq!(read.len(), 1, "entry {index}");
    }
    for finished in synced {
        finished.await.unwrap().unwrap();
    }
    append(&mut log, vec![big(40)]).await;
    assert!(log.shared.tail.read().first() > 0, "old entries left memory");
    let some = log.reader().limited_get_log_entries(0, 41).await.unwrap();
    assert!((1..10).contains(&some.len()), "a batch is limited in bytes: {}", some.len());
    assert_eq!(all(&log).await.len(), 41);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "LOCK" {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

fn write_ahead_log(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap()
}

#[tokio::test]
async fn a_torn_end_is_dropped_and_damage_before_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let mut log = RaftLog::open(&live).unwrap();
    for index in 0..30 {
        append(&mut log, vec![entry(1, index)]).await;
    }
    let torn = folder.path().join("torn");
    copy(&live, &torn);
    let file = OpenOptions::new().write(true).open(write_ahead_log(&torn)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    let recovered = all(&RaftLog::open(&torn).unwrap()).await;
    assert_eq!(recovered, (0..29).map(|index| entry(1, index)).collect::<Vec<_>>());

    let flipped = folder.path().join("flipped");
    copy(&live, &flipped);
    let file = OpenOptions::new().read(true).write(true).open(write_ahead_log(&flipped)).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], middle).unwrap();
    assert!(RaftLog::open(&flipped).is_err(), "entries after the damage must not vanish silently");
}

const CHILD: &str = "CAIRN_TEST_LOG_CHILD";

/// The process that is killed: appends, saves votes, truncates, and says what was acknowledged.
#[test]
fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut log = RaftLog::open(Path::new(&folder)).unwrap();
        let mut next = log.get_log_state().await.unwrap().last_log_id.map_or(0, |last| last.index + 1);
        let say = |text: String| std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
        for round in 0u64.. {
            let mut synced = Vec::new();
            for _ in 0..1 + round % 5 {
                let (done, finished) = TypeConfig::oneshot();
                let count = 1 + next % 4;
                let entries: Vec<Entry> = (next..next + count).map(|index| entry(1, index)).collect();
                log.append(entries, IOFlushed::signal(done)).await.unwrap();
                next += count;
                synced.push((next - 1, finished));
            }
            for (last, finished) in synced {
                finished.await.unwrap().unwrap();
                say(format!("\nentry {last}\n"));
            }
            if round % 7 == 0 {
                log.save_vote(&Vote::new(next, 1)).await.unwrap();
                say(format!("\nvote {next}\n"));
            }
            if round % 50 == 49 {
                log.purge(log_id(1, next - 20)).await.unwrap();
            }
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..8u64 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "raft::log::tests::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let (mut entry_seen, mut vote_seen, mut count) = (None, None, 0);
        let mut note = |line: String| {
            if let Some(index) = line.strip_prefix("entry ") {
                entry_seen = Some(index.parse::<u64>().unwrap());
            } else if let Some(term) = line.strip_prefix("vote ") {
                vote_seen = Some(term.parse::<u64>().unwrap());
            }
        };
        while count < 30 + round * 17 {
            note(lines.recv_timeout(Duration::from_secs(10)).expect("the child goes on"));
            count += 1;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        reader.join().unwrap();
        lines.into_iter().for_each(&mut note);

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut log = RaftLog::open(folder.path()).unwrap();
            let state = log.get_log_state().await.unwrap();
            assert!(state.last_log_id.map(|id| id.index) >= entry_seen, "{state:?} after {entry_seen:?}");
            let vote = log.reader().read_vote().await.unwrap();
            assert!(vote.map(|vote| vote.leader_id.term) >= vote_seen, "{vote:?} after {vote_seen:?}");
            for found in all(&log).await {
                assert_eq!(found, entry(1, found.log_id.index));
            }
        });
    }
}

/// Of the last write of a loss of power any sectors may be missing.
#[tokio::test]
async fn a_last_write_with_holes_is_dropped_and_one_before_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let mut log = RaftLog::open(&live).unwrap();
    append(&mut log, (0..30).map(|index| entry(1, index)).collect()).await;
    let before = write_ahead_log(&live).metadata().unwrap().len();
    // Larger than a block of the write-ahead log.
    append(&mut log, (30..150).map(|index| entry(1, index)).collect()).await;
    let after = write_ahead_log(&live).metadata().unwrap().len();
    assert!(after > before + 40_000);
    let with_hole = |name: &str, hole: u64| {
        let torn = folder.path().join(name);
        copy(&live, &torn);
        let file = OpenOptions::new().write(true).open(write_ahead_log(&torn)).unwrap();
        file.write_all_at(&[0; 512], hole).unwrap();
        torn
    };
    for (number, hole) in (before.next_multiple_of(512)..after - 512).step_by(7 * 512).enumerate() {
        let torn = with_hole(&format!("torn{number}"), hole);
        let mut log = RaftLog::open(&torn).unwrap_or_else(|error| panic!("hole at {hole}: {error}"));
        assert_eq!(all(&log).await, (0..30).map(|index| entry(1, index)).collect::<Vec<_>>(), "hole at {hole}");
        append(&mut log, vec![entry(1, 30)]).await;
        drop(log);
        assert_eq!(all(&RaftLog::open(&torn).unwrap()).await.len(), 31);
    }
    append(&mut log, vec![entry(1, 150)]).await;
    let damaged = with_hole("damaged", before + 20_000);
    assert!(RaftLog::open(&damaged).is_err(), "a record was written behind it, so it had been synced");
}

//! The house rules as a test: what every file must have, who may depend on whom, and calls that are
//! banned, each with its replacement. A rule that is wrong is changed here, with a reason; an
//! exception is one line in an allow-list, with a reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairn_cluster_tests::house_rules::SourceFile;

/// Folders of the workspace that hold Rust code.
const CRATES: &[&str] = &["common", "metadata-server", "chunk-server", "fuse-client", "control", "cluster-tests"];
/// Most production lines of a file.
const MAX_LINES: usize = 800;
/// Half of the files are no longer than this, in production lines.
const MAX_MEDIAN_LINES: usize = 150;

/// A word that must not occur in production code outside of where it belongs.
struct Ban {
    /// What is looked for in the code (comments and strings do not count).
    word: &'static str,
    /// Where it is banned: prefixes of paths.
    within: &'static [&'static str],
    /// Where it is allowed all the same: prefixes of paths.
    except: &'static [&'static str],
    /// What to do instead.
    instead: &'static str,
}

/// Rooms that must give the same result everywhere and always.
const PURE: &[&str] = &[
    "metadata-server/src/collection/",
    "metadata-server/src/lease/",
    "metadata-server/src/lock_queue/",
    "metadata-server/src/namespace/",
    "metadata-server/src/placement/",
    "metadata-server/src/write_reserve/",
    "chunk-server/src/collection/",
    "fuse-client/src/lease/",
];
const EVERYWHERE: &[&str] = &[""];
const SERVERS_AND_MOUNT: &[&str] =
    &["common/src/", "metadata-server/src/", "chunk-server/src/", "fuse-client/src/", "control/src/"];
/// Test code throughout: it may do what programs may not.
const TESTS: &str = "cluster-tests/";

const BANS: &[Ban] = &[
    // Pure rooms: apply must give the same on every server, today and in a replay.
    pure("tokio::", "nothing asynchronous: the caller waits, a pure room computes"),
    pure("SystemTime", "the time that the command carries"),
    pure("Instant", "the time that the command carries"),
    pure("rand::", "ids and choices that the command carries"),
    pure("HashMap", "BTreeMap: its order is the same on every server"),
    pure("HashSet", "BTreeSet: its order is the same on every server"),
    pure("std::fs", "the storage traits"),
    pure("std::thread", "nothing concurrent"),
    // One room a library.
    Ban {
        word: "fuser",
        within: EVERYWHERE,
        except: &["fuse-client/src/fuse_adapter", "cluster-tests/src/amnesia/", "cluster-tests/src/ceiling/"],
        instead: "the core's own types; fuser is known to fuse-client/src/fuse_adapter only",
    },
    Ban {
        word: "bincode",
        within: EVERYWHERE,
        except: &["common/src/codec.rs"],
        instead: "cairn_common::codec, the one bounded decoder",
    },
    Ban {
        word: "rocksdb::",
        within: EVERYWHERE,
        except: &["metadata-server/src/storage/", "metadata-server/src/raft/", "chunk-server/src/block_store/", TESTS],
        instead: "the storage traits (metadata) or the block store (chunk server)",
    },
    Ban {
        word: "openraft",
        within: EVERYWHERE,
        except: &["metadata-server/src/raft/"],
        instead: "what metadata-server/src/raft offers",
    },
    Ban {
        word: "quinn",
        within: EVERYWHERE,
        except: &["common/src/transport/"],
        instead: "cairn_common::transport::Transport",
    },
    Ban {
        word: "anyhow",
        within: SERVERS_AND_MOUNT,
        // Programs' outermost layer, where an error is only shown.
        except: &["metadata-server/src/main.rs", "chunk-server/src/main.rs", "fuse-client/src/main.rs", "control/src/"],
        instead: "a thiserror enum of the boundary",
    },
    // One-way directions inside a crate.
    Ban {
        word: "crate::service",
        within: &["metadata-server/src/raft/", "metadata-server/src/namespace/", "metadata-server/src/storage/"],
        except: &[],
        instead: "service → raft → namespace → storage: the lower room offers a trait, the upper one implements it",
    },
    Ban {
        word: "crate::raft",
        within: &["metadata-server/src/namespace/", "metadata-server/src/storage/", "metadata-server/src/placement/"],
        except: &[],
        instead: "service → raft → namespace → storage",
    },
    Ban {
        word: "crate::namespace",
        within: &["metadata-server/src/storage/"],
        except: &[],
        instead: "service → raft → namespace → storage",
    },
    Ban {
        word: "crate::service",
        within: &["chunk-server/src/block_store/"],
        except: &[],
        instead: "service → block store → disk",
    },
    Ban {
        word: "crate::fuse_adapter",
        within: &["fuse-client/src/"],
        except: &["fuse-client/src/fuse_adapter", "fuse-client/src/main.rs", "fuse-client/src/lib.rs"],
        instead: "adapter → core → read or write path → backend",
    },
    // Durable files are made in one way.
    Ban {
        word: "fs::write(",
        within: SERVERS_AND_MOUNT,
        // The mount sets its read-ahead in /sys, which is no file to be kept.
        except: &["common/src/durable_file", "fuse-client/src/fuse_adapter/mount.rs"],
        instead: "cairn_common::durable_file (write, fsync, rename, fsync of the folder)",
    },
    Ban {
        word: "fs::rename(",
        within: SERVERS_AND_MOUNT,
        except: &["common/src/durable_file"],
        instead: "cairn_common::durable_file (a rename is durable only after fsync of the folder)",
    },
    Ban {
        word: "File::create(",
        within: SERVERS_AND_MOUNT,
        except: &["common/src/durable_file"],
        instead: "cairn_common::durable_file, or OpenOptions in the room that syncs the file and its folder itself",
    },
    Ban {
        word: "spawn_blocking(",
        within: SERVERS_AND_MOUNT,
        // A simulation has one thread. The programs' outermost layer is not in it, nor are threads that end.
        except: &["common/src/blocking.rs", "chunk-server/src/main.rs", "fuse-client/src/main.rs"],
        instead: "cairn_common::blocking::run, which a simulation runs on its only thread",
    },
    // Never.
    never("todo!(", "the code"),
    never("unimplemented!(", "the code, or an error that says what is not supported"),
    never("dbg!(", "tracing::debug!"),
    never("process::abort(", "an error up to main"),
    never("mem::forget(", "ManuallyDrop with a reason"),
    Ban {
        word: "process::exit(",
        within: SERVERS_AND_MOUNT,
        except: &["metadata-server/src/main.rs", "chunk-server/src/main.rs", "fuse-client/src/main.rs", "control/src/"],
        instead: "an error up to main",
    },
    Ban {
        word: "unbounded_channel(",
        within: SERVERS_AND_MOUNT,
        // Flush requests of the leader: one a file that is open for writing, handed out again every 2 s.
        except: &["fuse-client/src/startup.rs"],
        instead: "tokio::sync::mpsc::channel with a named limit: a queue without a bound hides overload",
    },
];

const fn pure(word: &'static str, instead: &'static str) -> Ban {
    Ban { word, within: PURE, except: &[], instead }
}

const fn never(word: &'static str, instead: &'static str) -> Ban {
    Ban { word, within: EVERYWHERE, except: &[], instead }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn sources() -> Vec<SourceFile> {
    let files = SourceFile::read_all(&root(), CRATES).expect("sources are readable");
    assert!(files.len() > 30, "the sources were not found");
    files
}

fn fail_if_any(faults: &[String]) {
    assert!(faults.is_empty(), "{} house rules broken:\n{}", faults.len(), faults.join("\n"));
}

/// Whether the word stands in the code and is not just the tail of a longer name.
fn contains_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let joined = |c: char| c.is_alphanumeric() || c == '_';
        let after = code[at + word.len()..].chars().next();
        let open_end = word.ends_with(|c: char| !joined(c));
        !before.is_some_and(joined) && (open_end || !after.is_some_and(joined))
    })
}

fn bans_broken(file: &SourceFile) -> Vec<String> {
    let mut faults = Vec::new();
    for ban in BANS {
        let is_in = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.path.starts_with(prefix));
        if !is_in(ban.within) || is_in(ban.except) {
            continue;
        }
        for (number, line) in file.production().filter(|(_, line)| contains_word(&line.code, ban.word)) {
            let text = line.text.trim();
            faults.push(format!(
                "{}:{number}: `{}` does not belong here; use instead: {}\n    {text}",
                file.path, ban.word, ban.instead
            ));
        }
    }
    faults
}

fn unexplained_unwraps(file: &SourceFile) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in file.production() {
        // `expect` with a sentence states its invariant; `unwrap` needs a comment that does.
        let expects = line.code.contains(".expect(\"")
            && line
                .text
                .split(".expect(\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .is_some_and(|s| s.len() < 8);
        let unwraps = line.code.contains(".unwrap()") || line.code.contains(".unwrap_err()");
        if expects || (unwraps && !file.is_commented(number)) {
            faults.push(format!(
                "{}:{number}: unwrap without an invariant; use instead: an error, or `.expect(\"why it cannot fail\")`\n    {}",
                file.path,
                line.text.trim()
            ));
        }
    }
    faults
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let silent = |file: &&SourceFile| !file.lines.first().is_some_and(|line| line.text.starts_with("//! "));
    let faults: Vec<String> =
        sources().iter().filter(silent).map(|file| format!("{}:1: opens without `//!`", file.path)).collect();
    fail_if_any(&faults);
}

#[test]
fn files_are_short() {
    let files = sources();
    let mut lengths: Vec<usize> = Vec::new();
    let mut faults = Vec::new();
    for file in &files {
        // A test program is measured whole: it is what people read, too.
        let all_test = file.lines.iter().all(|line| line.is_test);
        let length = if all_test { file.lines.len() } else { file.production().count() };
        lengths.push(length);
        if length > MAX_LINES {
            faults.push(format!("{}: {length} lines, at most {MAX_LINES}; take a type out of it", file.path));
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    if median > MAX_MEDIAN_LINES {
        faults.push(format!("the median file has {median} lines, at most {MAX_MEDIAN_LINES}"));
    }
    fail_if_any(&faults);
}

#[test]
fn crates_depend_only_on_common() {
    let mut faults = Vec::new();
    for folder in CRATES {
        let path = format!("{folder}/Cargo.toml");
        let manifest: toml::Table =
            std::fs::read_to_string(root().join(&path)).expect("manifest").parse().expect("manifest is TOML");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(toml::Value::Table(dependencies)) = manifest.get(section) else { continue };
            for name in dependencies.keys().filter(|name| name.starts_with("cairn-")) {
                let allowed = match *folder {
                    "common" => false,
                    // Only tests look at more than one crate.
                    "cluster-tests" => true,
                    _ => name == "cairn-common",
                };
                if !allowed {
                    faults.push(format!(
                        "{path}: [{section}] {name}: crates depend only on cairn-common, common on none of ours; \
                         what two need moves to common"
                    ));
                }
            }
        }
    }
    fail_if_any(&faults);
}

#[test]
fn libraries_and_calls_stay_in_their_rooms() {
    let files = sources();
    fail_if_any(&files.iter().flat_map(bans_broken).collect::<Vec<_>>());
}

#[test]
fn unwraps_state_their_invariant() {
    let files = sources();
    let production = files.iter().filter(|file| !file.path.starts_with(TESTS));
    fail_if_any(&production.flat_map(unexplained_unwraps).collect::<Vec<_>>());
}

#[test]
fn no_test_is_switched_off() {
    let mut faults = Vec::new();
    for file in &sources() {
        for (index, line) in file.lines.iter().enumerate() {
            if line.code.trim_start().starts_with("#[ignore") {
                faults.push(format!("{}:{}: `#[ignore]`; make the test fit, or delete it", file.path, index + 1));
            }
        }
    }
    fail_if_any(&faults);
}

/// The rules can fail: each of these breaks one.
#[test]
fn the_rules_bite() {
    let broken: BTreeMap<&str, &str> = BTreeMap::from([
        ("metadata-server/src/namespace/x.rs", "//! X.\nuse std::collections::HashMap;\n"),
        ("metadata-server/src/placement/x.rs", "//! X.\nfn f() { let now = std::time::Instant::now(); }\n"),
        ("metadata-server/src/storage/x.rs", "//! X.\nuse crate::raft::Log;\n"),
        ("control/src/x.rs", "//! X.\nuse rocksdb::DB;\n"),
        ("fuse-client/src/x.rs", "//! X.\nuse fuser::FileAttr;\n"),
        ("chunk-server/src/x.rs", "//! X.\nfn f() { std::fs::write(\"a\", b\"b\"); }\n"),
        ("metadata-server/src/raft/x.rs", "//! X.\nfn f() { tokio::task::spawn_blocking(g); }\n"),
        ("common/src/x.rs", "//! X.\nfn f() -> anyhow::Result<()> { todo!() }\n"),
    ]);
    for (path, text) in broken {
        assert!(!bans_broken(&SourceFile::parse(path, text)).is_empty(), "{path} should be refused: {text}");
    }
    let unwrap = SourceFile::parse("common/src/x.rs", "//! X.\nfn f() { g().unwrap(); }\n");
    assert_eq!(unexplained_unwraps(&unwrap).len(), 1);
    let explained =
        SourceFile::parse("common/src/x.rs", "//! X.\n// Never empty: pushed above.\nfn f() { g().unwrap(); }\n");
    assert!(unexplained_unwraps(&explained).is_empty());
    let fine = "//! rocksdb::DB in a comment.\nfn f() { let s = \"todo!()\"; }\n#[cfg(test)]\nmod tests { use rocksdb::DB; }\n";
    assert!(bans_broken(&SourceFile::parse("control/src/x.rs", fine)).is_empty());
}

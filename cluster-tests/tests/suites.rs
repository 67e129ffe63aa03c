//! Test suites that others wrote for POSIX file systems, on a real mount: pjdfstest (names, modes,
//! owners, times, errors) and fsx (bytes, lengths, holes, mappings). `deploy/test` installs both.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_cluster_tests::harness::{DevCluster, Seed, size};

/// What pjdfstest may skip: what ext4 skips, too, because nothing is remounted read-only here, and
/// `link_count_max`, because the C library tells the same limit (127: unknown) for every FUSE file system.
const MAY_SKIP: [&str; 2] = ["erofs", "link::link_count_max"];

fn configuration(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("suites").join(name)
}

/// A folder that every user may use.
fn open_folder(path: PathBuf) -> PathBuf {
    fs::create_dir_all(&path).expect("mkdir");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
    path
}

#[test]
fn pjdfstest_finds_nothing() {
    let cluster = DevCluster::start();
    let folder = open_folder(cluster.mount(1).join("pjdfstest"));
    // Renames and links between two file systems must fail: this one is in memory.
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("a folder in /dev/shm");
    open_folder(elsewhere.path().to_owned());
    // By a short name: the path of a socket has at most 107 bytes.
    let short = elsewhere.path().join("m");
    std::os::unix::fs::symlink(&folder, &short).expect("symlink");
    let output = Command::new("pjdfstest")
        .args(["-c".as_ref(), configuration("pjdfstest.toml").as_os_str()])
        .args(["-p".as_ref(), short.as_os_str()])
        .args(["-s".as_ref(), elsewhere.path().as_os_str()])
        .stdin(Stdio::null())
        .output()
        .expect("pjdfstest is installed (deploy/test does that)");
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.lines().rfind(|line| line.starts_with("Summary")).unwrap_or("no summary").to_owned();
    eprintln!("pjdfstest: {summary}");
    let skipped = text.lines().filter_map(|line| Some(line.strip_suffix("skipped")?.trim()));
    let unexpected: Vec<&str> = skipped.filter(|name| !MAY_SKIP.iter().any(|may| name.contains(may))).collect();
    assert!(output.status.success() && summary.contains(" 0 failed,"), "{text}");
    assert!(unexpected.is_empty(), "skipped: {unexpected:?}");
}

#[test]
fn fsx_finds_no_wrong_byte() {
    let seed = Seed::new("fsx");
    let operations = size("CAIRN_FSX_OPERATIONS", 3_000);
    for run in 0..size("CAIRN_FSX_SEEDS", 1) as u64 {
        // Its own, because what is overwritten is not given back before the collection of blocks is built: a
        // million operations leave 30 GB.
        let cluster = DevCluster::start();
        let number: u32 = rand::Rng::random(&mut seed.rng(run));
        let file = cluster.mount(1).join(format!("fsx{run}"));
        let output = Command::new("fsx")
            .args(["-q", "-N", &operations.to_string(), "-S", &number.to_string()])
            .args(["-f".as_ref(), configuration("fsx.toml").as_os_str()])
            .arg(&file)
            .args(["-P".as_ref(), std::env::temp_dir().as_os_str()])
            .stdin(Stdio::null())
            .output()
            .expect("fsx is installed (deploy/test does that)");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "fsx -S {number} -N {operations}: {text}");
        eprintln!("fsx -S {number} -N {operations}: no mismatch");
    }
}

//! Lists that one mount sets and another enforces, in the very next call.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use cairn_cluster_tests::harness::DevCluster;

/// A case, given a folder on two mounts.
type Case = fn(&Path, &Path);

pub(crate) const CASES: &[(&str, Case)] = &[
    ("the next call on the other mount", next_call),
    ("directories on the way", directories_on_the_way),
    ("default lists", default_lists),
    ("modes", modes),
    ("lists of open files", open_files),
];

const ROUNDS: usize = 25;
const ACCESS: &str = "system.posix_acl_access";

/// A user without privileges, in a process that is there already when it is asked.
struct User {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl User {
    fn start(folder: &Path) -> Self {
        let script = r#"while read -r how name; do
            case $how in
                read) (: < "$name") 2>/dev/null ;;
                write) (: >> "$name") 2>/dev/null ;;
                list) ls "$name" >/dev/null 2>&1 ;;
            esac && echo yes || echo no
        done"#;
        let mut process = Command::new("setpriv")
            .args(["--reuid", "4001", "--regid", "4001", "--clear-groups", "--", "bash", "-c", script])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv runs");
        let (asks, answers) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        Self { process, asks, answers: BufReader::new(answers) }
    }

    fn may(&mut self, how: &str, name: &str) -> bool {
        writeln!(self.asks, "{how} {name}").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim() == "yes"
    }
}

impl Drop for User {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn setfacl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("setfacl").args(arguments).current_dir(folder).output().expect("setfacl runs");
    assert!(output.status.success(), "setfacl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn getfacl(folder: &Path, name: &str) -> String {
    let output = Command::new("getfacl").args(["-n", name]).current_dir(folder).output().expect("getfacl runs");
    assert!(output.status.success(), "getfacl {name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file that only root may use.
fn closed(folder: &Path, name: &str) {
    fs::write(folder.join(name), "text").expect("write");
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o640)).expect("chmod");
}

/// Sets on one and then on the other, and asks on the mount that has not set.
fn next_call(one: &Path, two: &Path) {
    closed(one, "f");
    let mut users = [User::start(one), User::start(two)];
    for round in 0..ROUNDS {
        let (setter, asked) = if round % 2 == 0 { (one, 1) } else { (two, 0) };
        assert!(!users[asked].may("read", "f"), "round {round}: nobody allowed it");
        setfacl(setter, &["-m", "u:4001:r", "f"]);
        assert!(users[asked].may("read", "f"), "round {round}: the list counts on the other mount");
        assert!(!users[asked].may("write", "f"));
        setfacl(setter, &["-m", "u:4001:rw", "f"]);
        assert!(users[asked].may("write", "f"), "round {round}: another list");
        assert!(users[1 - asked].may("write", "f"));
        assert_eq!(getfacl(one, "f"), getfacl(two, "f"));
        setfacl(if round % 3 == 0 { one } else { two }, &["-b", "f"]);
        assert!(!users[asked].may("read", "f"), "round {round}: it is gone");
        assert!(!users[1 - asked].may("read", "f"));
    }
}

fn directories_on_the_way(one: &Path, two: &Path) {
    fs::create_dir(one.join("d")).expect("mkdir");
    fs::write(one.join("d/f"), "text").expect("write");
    fs::set_permissions(one.join("d"), fs::Permissions::from_mode(0o710)).expect("chmod");
    let mut users = [User::start(one), User::start(two)];
    for round in 0..ROUNDS {
        let (setter, asked) = if round % 2 == 0 { (one, 1) } else { (two, 0) };
        assert!(!users[asked].may("read", "d/f"));
        setfacl(setter, &["-m", "u:4001:x", "d"]);
        assert!(users[asked].may("read", "d/f") && !users[asked].may("list", "d"), "round {round}");
        setfacl(setter, &["-m", "u:4001:rx", "d"]);
        assert!(users[asked].may("list", "d"), "round {round}");
        setfacl(setter, &["-x", "u:4001", "d"]);
        assert!(!users[asked].may("read", "d/f"), "round {round}");
    }
}

fn default_lists(one: &Path, two: &Path) {
    for (number, (setter, maker)) in [(one, two), (two, one)].into_iter().enumerate() {
        let name = format!("d{number}");
        fs::create_dir(setter.join(&name)).expect("mkdir");
        for round in 0..ROUNDS {
            setfacl(setter, &["-m", "d:u:4001:rwx,d:o::-", &name]);
            let (file, folder) = (format!("{name}/f{round}"), format!("{name}/s{round}"));
            fs::write(maker.join(&file), "text").expect("write");
            fs::create_dir(maker.join(&folder)).expect("mkdir");
            for made in [&file, &folder] {
                let shown = getfacl(maker, made);
                assert!(shown.contains("user:4001:rwx") && shown.contains("other::---"), "{made}: {shown}");
                assert_eq!(shown, getfacl(setter, made));
            }
            setfacl(setter, &["-k", &name]);
            let plain = format!("{name}/p{round}");
            fs::write(maker.join(&plain), "text").expect("write");
            assert!(!getfacl(maker, &plain).contains("4001"), "{plain}");
        }
    }
}

/// chmod on one mount changes the list that the other shows and enforces; a list changes the mode.
fn modes(one: &Path, two: &Path) {
    closed(one, "f");
    setfacl(one, &["-m", "u:4001:rw", "f"]);
    let mut user = User::start(two);
    let mode = || fs::metadata(two.join("f")).expect("stat").mode() & 0o777;
    for _ in 0..ROUNDS {
        assert!(user.may("write", "f"));
        fs::set_permissions(one.join("f"), fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(!user.may("write", "f") && user.may("read", "f"), "the mask is r");
        assert!(getfacl(two, "f").contains("mask::r--"));
        setfacl(one, &["-m", "m::-", "f"]);
        assert!(!user.may("read", "f"));
        assert_eq!(mode(), 0o600);
        setfacl(one, &["-m", "m::rw", "f"]);
        assert_eq!(mode(), 0o660);
    }
}

/// Who has a file open is shown its list by the kernel, which asks for no attributes before.
fn open_files(one: &Path, two: &Path) {
    closed(one, "f");
    fs::create_dir(one.join("d")).expect("mkdir");
    for name in ["f", "d"] {
        let open = File::open(two.join(name)).expect("open");
        let shown = || {
            let mut value = [0; 4096];
            rustix::fs::fgetxattr(&open, ACCESS, &mut value[..]).ok().map(|length| value[..length].to_vec())
        };
        assert_eq!(shown(), None);
        let mut before = None;
        for permissions in ["r", "rw", "rwx"] {
            setfacl(one, &["-m", &format!("u:4001:{permissions}"), name]);
            let now = shown();
            assert!(now.is_some() && now != before, "{name}: {permissions}");
            before = now;
            // The kernel has forgotten the attributes by then, and keeps the list.
            std::thread::sleep(Duration::from_millis(1300));
            assert_eq!(shown(), before);
        }
        setfacl(one, &["-b", name]);
        assert_eq!(shown(), None, "{name}");
    }
}

/// Lists outlive the leader that took them, and the next one is told of what follows.
pub(crate) fn leader_dies_between(cluster: &DevCluster) {
    let (one, two) = (cluster.mount(1).join("killed"), cluster.mount(2).join("killed"));
    fs::create_dir(&one).expect("mkdir");
    fs::create_dir(one.join("d")).expect("mkdir");
    closed(&one, "f");
    let mut user = User::start(&two);
    setfacl(&one, &["-m", "u:4001:r", "f"]);
    setfacl(&one, &["-m", "d:u:4001:rwx,d:o::-", "d"]);
    assert!(user.may("read", "f"));
    let leader = cluster.leader();
    cluster.kill9(&leader);
    assert!(user.may("read", "f"), "the new leader knows the list");
    setfacl(&one, &["-x", "u:4001", "f"]);
    assert!(!user.may("read", "f"), "what changed under the new leader counts");
    fs::write(two.join("d/made"), "text").expect("write");
    assert!(getfacl(&one, "d/made").contains("user:4001:rwx"));
    setfacl(&two, &["-m", "u:4001:rw", "f"]);
    assert!(User::start(&one).may("write", "f"));
    cluster.up();
    cluster.wait_healthy();
}

/// The kernel asks for the list of every file that a user opens; what a mount has looked up it knows to have
/// none.
pub(crate) fn files_without_lists_cost_no_question(cluster: &DevCluster) {
    const FILES: usize = 300;
    let (one, two) = (cluster.mount(1).join("many"), cluster.mount(2).join("many"));
    fs::create_dir(&one).expect("mkdir");
    for number in 0..FILES {
        fs::write(one.join(format!("f{number}")), "text").expect("write");
    }
    let asked = || {
        // It is published once a second.
        std::thread::sleep(Duration::from_millis(2500));
        cluster.counter("mount2", "cairn_mount_cache_misses_total", "")
    };
    let lists = || cluster.counter("mount2", "cairn_mount_operations_total", "getxattr");
    let mut user = User::start(&two);
    // Closes what writing left open elsewhere, and lets this mount look everything up.
    assert!(user.may("list", "-l"));
    for number in 0..FILES {
        assert!(user.may("read", &format!("f{number}")));
    }
    // Meanwhile the kernel forgets the attributes, and with them that there were no lists.
    let (before, lists_before) = (asked(), lists());
    for number in 0..FILES {
        assert!(user.may("read", &format!("f{number}")));
    }
    let (questions, lists) = (asked() - before, lists() - lists_before);
    eprintln!("{FILES} files: {lists} requests for lists, {questions} questions to the leader");
    assert!(lists >= FILES as f64, "the kernel asks for lists: {lists}");
    assert!(questions < FILES as f64 / 10.0, "{questions} questions for {FILES} files without lists");
}

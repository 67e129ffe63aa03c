//! Access control lists as programs use them: the same scripts of setfacl, getfacl, chmod, mkdir and calls of
//! other users print the same on a local file system and on a mount, and what one mount sets counts in the
//! next call on another.

mod scripts;
mod two_mounts;

use std::path::Path;
use std::process::Command;

use cairn_cluster_tests::harness::DevCluster;

/// Commands of Debian's packages acl, attr, rsync and util-linux.
const NEEDED: [&str; 5] = ["setfacl", "getfacl", "getfattr", "rsync", "setpriv"];
/// Of <linux/magic.h>.
const EXT4_SUPER_MAGIC: i64 = 0xEF53;

/// A script before which every command's complaints are printed, too, and other users are called:
/// `as UID:GID,GROUP… COMMAND` also prints what it exits with.
const PRELUDE: &str = r#"
exec 2>&1
umask 022
export LC_ALL=C
as() {
    local ids=$1; shift
    local groups=${ids#*:}
    setpriv --reuid "${ids%%:*}" --regid "${groups%%,*}" --groups "$groups" -- "$@"
    echo "[$?]"
}
"#;

/// What a script prints in a folder. Programs are given relative names only: they show where they run nowhere.
fn printed(folder: &Path, script: &str) -> String {
    let whole = format!("{PRELUDE}\n{script}");
    let output = Command::new("bash").args(["-c", &whole]).current_dir(folder).output().expect("bash runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn assert_programs_are_there() {
    for program in NEEDED {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().expect("sh runs");
        assert!(found.status.success(), "{program} is missing: apt-get install acl attr rsync util-linux");
    }
}

/// Whether a folder is on the file system whose behaviour is the measure.
fn is_on_ext4(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|found| found.f_type == EXT4_SUPER_MAGIC)
}

#[test]
fn lists_do_what_they_do_on_a_local_file_system() {
    assert_programs_are_there();
    let cluster = DevCluster::start();
    let (mount, local) = (cluster.mount(1), cluster.outside());
    if !is_on_ext4(&local) {
        eprintln!("SKIPPED: {} is not on ext4, and there is nothing to compare with; set TMPDIR", local.display());
        return;
    }
    let mut faults = Vec::new();
    for (number, (what, script)) in scripts::ALL.iter().enumerate() {
        let [expected, found] = [&local, &mount].map(|root| {
            let folder = root.join(format!("case{number}"));
            std::fs::create_dir(&folder).expect("mkdir");
            printed(&folder, script)
        });
        assert!(!expected.contains("command not found"), "{what}: {expected}");
        if expected != found {
            faults.push(format!("{what}: on ext4:\n{expected}\non the mount:\n{found}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn a_list_that_one_mount_sets_counts_on_the_other() {
    assert_programs_are_there();
    let cluster = DevCluster::start();
    let (one, two) = (cluster.mount(1), cluster.add_mount());
    for (number, (what, case)) in two_mounts::CASES.iter().enumerate() {
        let (start, name) = (std::time::Instant::now(), format!("case{number}"));
        std::fs::create_dir(one.join(&name)).expect("mkdir");
        case(&one.join(&name), &two.join(&name));
        eprintln!("{what}: {:?}", start.elapsed());
    }
    two_mounts::leader_dies_between(&cluster);
    two_mounts::files_without_lists_cost_no_question(&cluster);
}

//! The system calls of Linux as programs see them: every case is carried out on a local ext4 first and on a
//! mount then, and what was seen must be the same, except for what `exceptions` lists with its reason.

mod directories;
mod exceptions;
mod flags;
mod mappings;
mod modes;
mod names;
mod notices;
mod offsets;
mod seen;
mod special;
mod sys;
mod times;
mod unlinked;
mod xattrs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use cairn_cluster_tests::harness::DevCluster;

use exceptions::EXCEPTIONS;
use seen::Seen;

/// A case, given a folder of its own.
type Case = fn(&mut Seen, &Path);
/// A case, given a folder of its own on two mounts; twice the same locally.
type Case2 = fn(&mut Seen, &Path, &Path);

/// Everything that one mount shows.
const ONE_MOUNT: &[&[(&str, Case)]] = &[
    times::CASES,
    modes::CASES,
    names::CASES,
    directories::CASES,
    special::CASES,
    offsets::CASES,
    flags::CASES,
    unlinked::CASES,
    xattrs::CASES,
    mappings::CASES,
    notices::CASES,
];
/// What takes two.
const TWO_MOUNTS: &[&[(&str, Case2)]] = &[unlinked::CASES_OF_TWO, mappings::CASES_OF_TWO];

/// Carries out what the variable `CAIRN_SURFACE` selects, or all.
fn is_chosen(name: &str) -> bool {
    std::env::var("CAIRN_SURFACE").map_or(true, |part| name.contains(&part))
}

fn carry_out(name: &str, root: &Path, work: impl FnOnce(&mut Seen, &str)) -> Seen {
    let (mut seen, start) = (Seen::default(), Instant::now());
    let folder = name.replace([' ', ','], "-");
    fs::create_dir(root.join(&folder)).expect("mkdir");
    fs::set_permissions(root.join(&folder), fs::Permissions::from_mode(0o777)).expect("chmod");
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&mut seen, &folder))) {
        let text =
            panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
        seen.is("the end of the case", text.unwrap_or_default());
    }
    eprintln!("{}: {name}: {:?}", root.display(), start.elapsed());
    seen
}

fn carry_out_all(one: &Path, two: impl FnOnce() -> std::path::PathBuf) -> Vec<(&'static str, Seen)> {
    let mut all = Vec::new();
    for (name, case) in ONE_MOUNT.concat().into_iter().filter(|(name, _)| is_chosen(name)) {
        all.push((name, carry_out(name, one, |seen, folder| case(seen, &one.join(folder)))));
    }
    let two = two();
    for (name, case) in TWO_MOUNTS.concat().into_iter().filter(|(name, _)| is_chosen(name)) {
        all.push((name, carry_out(name, one, |seen, folder| case(seen, &one.join(folder), &two.join(folder)))));
    }
    all
}

/// What differs and is not listed, and what is listed and does not differ.
fn faults(local: &[(&'static str, Seen)], mounted: &[(&'static str, Seen)]) -> Vec<String> {
    let mut faults = Vec::new();
    for ((name, expected), (_, found)) in local.iter().zip(mounted) {
        let lines = expected.compared_with(found);
        let exceptions = EXCEPTIONS.iter().filter(|exception| exception.case == *name);
        for exception in exceptions {
            let differs =
                |(what, here, there): &(String, String, String)| exception.is_about(name, what) && here != there;
            if !lines.iter().any(differs) {
                faults.push(format!("{name}: {}: no difference, the exception can go", exception.what));
            }
        }
        for (what, here, there) in lines.iter().filter(|(_, here, there)| here != there) {
            let listed = EXCEPTIONS.iter().find(|exception| exception.is_about(name, what));
            match listed {
                Some(exception) if exception.mounted == there => {}
                Some(exception) => faults.push(format!(
                    "{name}: {what}: ext4 {here}, Cairn {there}; the exception says {} ({})",
                    exception.mounted, exception.reason
                )),
                None => faults.push(format!("{name}: {what}: ext4 {here}, Cairn {there}")),
            }
        }
    }
    faults
}

/// One cluster for all cases: starting one takes longer than many of them.
#[test]
fn system_calls_do_what_they_do_on_ext4() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let local = carry_out_all(folder.path(), || folder.path().to_owned());
    let seen: usize = local.iter().map(|(_, seen)| seen.len()).sum();
    assert!(seen > 0, "no case was carried out");
    let cluster = DevCluster::start();
    let mounted = carry_out_all(&cluster.mount(1), || cluster.add_mount());
    if is_chosen("unlinked") {
        unlinked::kill_of_the_mount_that_unlinked(&cluster);
    }
    // Its logs tell nothing about a difference.
    drop(cluster);
    let faults = faults(&local, &mounted);
    eprintln!("{} cases, {seen} observations, {} exceptions", local.len(), EXCEPTIONS.len());
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

/// The comparison can fail.
#[test]
fn a_difference_is_noticed() {
    let seen = |lines: &[(&str, &str)]| {
        let mut seen = Seen::default();
        lines.iter().for_each(|(what, value)| seen.is(*what, *value));
        seen
    };
    let one = || vec![("a case", seen(&[("a", "1"), ("b", "2")]))];
    assert_eq!(faults(&one(), &one()), [""; 0]);
    assert_eq!(faults(&one(), &[("a case", seen(&[("a", "1"), ("b", "3")]))]).len(), 1);
    assert_eq!(faults(&one(), &[("a case", seen(&[("a", "1")]))]).len(), 1);
    assert_eq!(faults(&[("a case", seen(&[("a", "1")]))], &one()).len(), 1);
    // Of a case that has one exception only.
    let exception = EXCEPTIONS.iter().find(|exception| exception.case == "open flags").expect("it is listed");
    let with = |value: &str| vec![(exception.case, seen(&[(exception.what, value)]))];
    assert_eq!(faults(&with("ext4's"), &with(exception.mounted)), [""; 0]);
    assert_eq!(faults(&with("ext4's"), &with("a third")).len(), 1);
    assert_eq!(faults(&with("ext4's"), &with("ext4's")).len(), 1, "an exception that is none any more");
}

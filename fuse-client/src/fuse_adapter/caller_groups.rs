//! The groups of a caller, as /proc shows them. The kernel would say in a request that a new access control
//! list takes the setgid bit away (FUSE_SETXATTR_ACL_KILL_SGID), but fuser cannot read requests of that
//! form. The caller sleeps until it is answered, so it can be looked at.

use super::caller_task::CallerTask;
use crate::filesystem::acls::CallerGroups;

/// Bit of CAP_FSETID in a set of capabilities.
const CAP_FSETID: u64 = 1 << 4;

/// A caller that this mount cannot look at has no groups but the one in its request, and no capabilities;
/// nor has one of another user namespace any that count here.
pub(super) async fn groups_of(task: CallerTask) -> CallerGroups {
    let Some(status) = task.read("status").await else { return CallerGroups::default() };
    let mut groups = parse(&status);
    groups.keeps_setgid &= task.shares_user_namespace().await;
    groups
}

fn parse(status: &str) -> CallerGroups {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let effective = u64::from_str_radix(field("CapEff:").trim(), 16).unwrap_or_default();
    CallerGroups {
        supplementary: field("Groups:").split_whitespace().filter_map(|group| group.parse().ok()).collect(),
        keeps_setgid: effective & CAP_FSETID != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_the_capability_are_found() {
        let status = "Name:\tsetfacl\nGid:\t5\t5\t5\t5\nGroups:\t4 24 100000 \nCapPrm:\t0000000000000010\nCapEff:\t";
        let of = |effective: &str| parse(&format!("{status}{effective}\nCapBnd:\t000001ffffffffff\n"));
        let groups = CallerGroups { supplementary: vec![4, 24, 100_000], keeps_setgid: false };
        assert_eq!(of("0000000000000000"), groups);
        assert_eq!(of("ffffffffffffffef"), groups);
        assert_eq!(of("0000000000000010"), CallerGroups { keeps_setgid: true, ..groups });
        assert_eq!(parse(""), CallerGroups::default());
    }

    #[tokio::test]
    async fn who_cannot_be_seen_has_no_groups() {
        assert_eq!(groups_of(CallerTask::of(0)).await, CallerGroups::default());
        let own = groups_of(CallerTask::of(std::process::id())).await;
        assert_eq!(own.supplementary.len(), rustix::process::getgroups().unwrap().len());
    }
}

//! Bits of a mode that mean more than who may do what, and the rule by which they go. Numbers are those of
//! stat(2); nothing else of a mode is known here.

/// Programs run as the file's owner.
pub const SETUID: u32 = 0o4000;
/// Programs run as the file's group; what is made in a directory gets its group.
pub const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;

/// The mode that a write leaves on a regular file: suid goes, and sgid where it is not a mark for locking.
/// So for root, too, whom Linux would let keep them: the metadata servers know no capabilities.
pub fn after_write(mode: u32) -> u32 {
    let sgid = if mode & GROUP_EXECUTE != 0 { SETGID } else { 0 };
    mode & !(SETUID | sgid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_takes_what_runs_as_somebody_else() {
        assert_eq!(after_write(0o6755), 0o755);
        assert_eq!(after_write(0o4644), 0o644);
        assert_eq!(after_write(0o2745), 0o2745, "a mark for locking, not a program of the group");
        assert_eq!(after_write(0o1777), 0o1777);
    }
}

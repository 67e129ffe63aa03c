//! Where a mount differs from ext4, each with the reason; `docs/semantics.md` has the same for users.

/// Lines that differ.
pub(crate) struct Exception {
    /// The case.
    pub(crate) case: &'static str,
    /// The line; a `*` stands for anything. With one, some of the lines may be equal, but not all.
    pub(crate) what: &'static str,
    /// Their value on a mount.
    pub(crate) mounted: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
}

impl Exception {
    /// Whether it is about this line.
    pub(crate) fn is_about(&self, case: &str, what: &str) -> bool {
        if self.case != case {
            return false;
        }
        match self.what.split_once('*') {
            None => self.what == what,
            Some((start, end)) => {
                what.len() >= start.len() + end.len() && what.starts_with(start) && what.ends_with(end)
            }
        }
    }
}

const fn differs(case: &'static str, what: &'static str, mounted: &'static str, reason: &'static str) -> Exception {
    Exception { case, what, mounted, reason }
}

const RANGE: &str = "a mount keeps every time, ext4 those of 1901 to 2446";
const EVERYBODY: &str = "bytes take the bits away whoever writes them: the metadata servers do not know the writer";
const MARK: &str = "Linux's FUSE leaves sgid where the group may not execute";
const FAR: &str = "a file may have 8 EiB - 1, on ext4 16 TiB";
const DIRECT: &str = "O_DIRECT needs no alignment";
const GONE: &str = "what is no regular file and was removed by another mount: ESTALE";
const LARGE: &str = "ext4 has no room for a large value, a mount takes 64 KiB";
const BYTES: &str = "holes are told to the byte, not to the page";
const NO_OPCODE: &str = "Linux's FUSE does not hand it on";
const NO_HANDLES: &str = "FUSE without export support finds a file by its handle while the kernel knows it";

/// All of them.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    differs("times far away", "2446, kept", "Some(((15032385535, 7), (15032385535, 7)))", RANGE),
    differs("times far away", "after 2446, kept", "Some(((34359738368, 7), (34359738368, 7)))", RANGE),
    differs("times far away", "before 1901, kept", "Some(((-8589934592, 7), (-8589934592, 7)))", RANGE),
    differs("access times of reads", "pread at the end", "-", "Linux's FUSE answers a read behind the end itself"),
    differs("suid and sgid are taken away", "* by root, 2777", "100777", EVERYBODY),
    differs("suid and sgid are taken away", "* by root, 4777", "100777", EVERYBODY),
    differs("suid and sgid are taken away", "* by root, 6767", "102767", EVERYBODY),
    differs("suid and sgid are taken away", "* by root, 6777", "100777", EVERYBODY),
    differs("suid and sgid are taken away", "* by the owner, 2767", "102767", MARK),
    differs("suid and sgid are taken away", "* by the owner, 6767", "102767", MARK),
    differs("suid and sgid are taken away", "* by another, 2767", "102767", MARK),
    differs("suid and sgid are taken away", "* by another, 6767", "102767", MARK),
    differs(
        "rename flags",
        "WHITEOUT, to directory/inner",
        r#"("EINVAL", "alias directory file second", "inner") first|second|inner"#,
        "RENAME_WHITEOUT is for overlayfs, and not offered",
    ),
    differs(
        "rename flags",
        "WHITEOUT, to new",
        r#"("EINVAL", "alias directory file second", "inner") first|second|"#,
        "RENAME_WHITEOUT is for overlayfs, and not offered",
    ),
    differs(
        "rename flags",
        "WHITEOUT, to second",
        r#"("EINVAL", "alias directory file second", "inner") first|second|second"#,
        "RENAME_WHITEOUT is for overlayfs, and not offered",
    ),
    differs("removed on one mount, used on the other", "*", "ESTALE", GONE),
    differs("far offsets", "bytes at *", "120", FAR),
    differs("far offsets", "fallocate behind 16 TiB*", "ENOSPC", FAR),
    differs("far offsets", "read at *", "1", FAR),
    differs("far offsets", "seek to *", "ok", FAR),
    differs("far offsets", "size after *", "true", FAR),
    differs("far offsets", "size of *", "true", FAR),
    differs("far offsets", "truncate to *", "ok", FAR),
    differs("far offsets", "write at *", "1", FAR),
    differs("holes and data", "a piece within a page", "10000-10100 ENXIO", BYTES),
    differs("negative and odd sizes", "collapse", "EOPNOTSUPP", NO_OPCODE),
    differs("negative and odd sizes", "insert", "EOPNOTSUPP", NO_OPCODE),
    differs("open flags", "O_TMPFILE", "EOPNOTSUPP", "the FUSE library has no FUSE_TMPFILE"),
    differs("direct IO", "read at an odd offset", "4096", DIRECT),
    differs("direct IO", "write at an odd offset", "4096", DIRECT),
    differs("direct IO", "write of an odd length", "100", DIRECT),
    differs("direct IO", "write from odd memory", "4096", DIRECT),
    differs("statx", "birth time", "false", NO_OPCODE),
    differs("ioctls and advice", "FS_IOC_GETFLAGS", "ENOTTY", "flags of inodes (chattr) are not kept"),
    differs("attribute values", "both flags", "EINVAL", "XATTR_CREATE with XATTR_REPLACE is refused"),
    differs("attribute values", "both flags, new", "EINVAL", "XATTR_CREATE with XATTR_REPLACE is refused"),
    differs("attribute sizes", "a value of *", "ok", LARGE),
    differs("attribute sizes", "the value of *", "true", LARGE),
    differs("file handles", "* opened when nobody has it", "ESTALE", NO_HANDLES),
];

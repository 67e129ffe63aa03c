//! Where a mount differs from ext4, each with the reason; `docs/semantics.md` has the same for users.

/// A line that differs.
pub(crate) struct Exception {
    /// The case.
    pub(crate) case: &'static str,
    /// The line.
    pub(crate) what: &'static str,
    /// Its value on a mount.
    pub(crate) mounted: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
}

const fn differs(case: &'static str, what: &'static str, mounted: &'static str, reason: &'static str) -> Exception {
    Exception { case, what, mounted, reason }
}

/// All of them.
pub(crate) const EXCEPTIONS: &[Exception] =
    &[differs("open flags", "O_TMPFILE", "EOPNOTSUPP", "the FUSE library has no FUSE_TMPFILE")];

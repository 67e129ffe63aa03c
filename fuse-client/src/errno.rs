//! The one table from errors to errno values. Exhaustive: a new error does not compile without a line
//! here.

use cairn_common::client::ClientError;
use cairn_common::protocol::FsError;

/// The errno of a failed call, positive.
pub fn errno(error: &ClientError) -> i32 {
    match error {
        ClientError::Fs(error) => fs_errno(*error),
        ClientError::TimedOut { .. } => libc::ETIMEDOUT,
        ClientError::SessionFenced { .. } => libc::EIO,
        ClientError::Refused { .. } => libc::EACCES,
        ClientError::NoReplica { .. } => libc::EIO,
        ClientError::NoSpace { .. } => libc::ENOSPC,
        ClientError::OutOfSequence { .. } => libc::EIO,
        ClientError::Protocol { .. } => libc::EIO,
    }
}

/// The errno of an operation's answer, positive.
pub fn fs_errno(error: FsError) -> i32 {
    match error {
        FsError::NotFound => libc::ENOENT,
        FsError::Exists => libc::EEXIST,
        FsError::NotDirectory => libc::ENOTDIR,
        FsError::IsDirectory => libc::EISDIR,
        FsError::NotEmpty => libc::ENOTEMPTY,
        FsError::NameTooLong => libc::ENAMETOOLONG,
        FsError::Invalid => libc::EINVAL,
        FsError::NotPermitted => libc::EPERM,
        FsError::AccessDenied => libc::EACCES,
        FsError::TooManyLinks => libc::EMLINK,
        FsError::CrossDevice => libc::EXDEV,
        FsError::Stale => libc::ESTALE,
        FsError::NoAttribute => libc::ENODATA,
        FsError::Range => libc::ERANGE,
        FsError::TooBig => libc::E2BIG,
        FsError::FileTooBig => libc::EFBIG,
        FsError::NoSpace => libc::ENOSPC,
        FsError::NotSupported => libc::EOPNOTSUPP,
        FsError::NoSuchOffset => libc::ENXIO,
        FsError::Locked => libc::EAGAIN,
        FsError::Deadlock => libc::EDEADLK,
        FsError::NoLocks => libc::ENOLCK,
        // Never shown: the mount puts again.
        FsError::PutAgain | FsError::Io => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lost_quorum_is_a_timeout_and_not_an_io_error() {
        let error = ClientError::TimedOut { what: "read", waited: Duration::from_secs(30), tried: String::new() };
        assert_eq!(errno(&error), libc::ETIMEDOUT);
        assert_eq!(errno(&ClientError::Fs(FsError::NoSpace)), libc::ENOSPC);
    }
}

//! System calls as the cases need them, and processes of other users.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::seen::Seen;

/// A path for the kernel.
pub(crate) fn c(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).expect("no NUL in paths of tests")
}

/// What a call of the C library returned, as a result.
pub(crate) fn done(returned: impl Into<i64>) -> io::Result<i64> {
    let returned = returned.into();
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// open(2).
pub(crate) fn open(path: impl AsRef<Path>, flags: i32, mode: u32) -> io::Result<File> {
    let path = c(path);
    // SAFETY: the path lives; the descriptor is nobody else's.
    unsafe { done(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode)).map(|fd| File::from_raw_fd(fd as i32)) }
}

/// A new file for reading and writing, with this content.
pub(crate) fn file(path: impl AsRef<Path>, content: &[u8]) -> File {
    let mut file = open(path, libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o644).expect("create");
    file.write_all(content).expect("write");
    file
}

/// truncate(2).
pub(crate) fn truncate(path: impl AsRef<Path>, size: i64) -> io::Result<i64> {
    // SAFETY: the path lives.
    unsafe { done(libc::truncate(c(path).as_ptr(), size)) }
}

/// ftruncate(2).
pub(crate) fn ftruncate(file: &File, size: i64) -> io::Result<i64> {
    // SAFETY: the descriptor is open.
    unsafe { done(libc::ftruncate(file.as_raw_fd(), size)) }
}

/// fallocate(2).
pub(crate) fn fallocate(file: &File, mode: i32, offset: i64, length: i64) -> io::Result<i64> {
    // SAFETY: the descriptor is open.
    unsafe { done(libc::fallocate(file.as_raw_fd(), mode, offset, length)) }
}

/// pwrite(2).
pub(crate) fn pwrite(file: &File, bytes: &[u8], offset: i64) -> io::Result<i64> {
    // SAFETY: the buffer has that length.
    unsafe { done(libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), offset) as i64) }
}

/// lseek(2).
pub(crate) fn lseek(file: &File, offset: i64, whence: i32) -> io::Result<i64> {
    // SAFETY: the descriptor is open.
    unsafe { done(libc::lseek(file.as_raw_fd(), offset, whence)) }
}

/// copy_file_range(2) from and to an offset.
pub(crate) fn copy(from: &File, mut from_at: i64, to: &File, mut to_at: i64, length: usize) -> io::Result<i64> {
    // SAFETY: the offsets live.
    unsafe { done(libc::copy_file_range(from.as_raw_fd(), &mut from_at, to.as_raw_fd(), &mut to_at, length, 0) as i64) }
}

/// mkdir(2).
pub(crate) fn mkdir(path: impl AsRef<Path>, mode: u32) -> io::Result<i64> {
    // SAFETY: the path lives.
    unsafe { done(libc::mkdir(c(path).as_ptr(), mode)) }
}

/// mknod(2).
pub(crate) fn mknod(path: impl AsRef<Path>, mode: u32, device: u64) -> io::Result<i64> {
    // SAFETY: the path lives.
    unsafe { done(libc::mknod(c(path).as_ptr(), mode, device)) }
}

/// chmod(2).
pub(crate) fn chmod(path: impl AsRef<Path>, mode: u32) -> io::Result<i64> {
    // SAFETY: the path lives.
    unsafe { done(libc::chmod(c(path).as_ptr(), mode)) }
}

/// lchown(2); -1 leaves.
pub(crate) fn chown(path: impl AsRef<Path>, uid: i64, gid: i64) -> io::Result<i64> {
    // SAFETY: the path lives.
    unsafe { done(libc::lchown(c(path).as_ptr(), uid as u32, gid as u32)) }
}

/// link(2).
pub(crate) fn link(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<i64> {
    // SAFETY: the paths live.
    unsafe { done(libc::link(c(from).as_ptr(), c(to).as_ptr())) }
}

/// linkat(2) relative to nothing but the working directory.
pub(crate) fn linkat(from: impl AsRef<Path>, to: impl AsRef<Path>, flags: i32) -> io::Result<i64> {
    // SAFETY: the paths live.
    unsafe { done(libc::linkat(libc::AT_FDCWD, c(from).as_ptr(), libc::AT_FDCWD, c(to).as_ptr(), flags)) }
}

/// renameat2(2).
pub(crate) fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>, flags: u32) -> io::Result<i64> {
    // SAFETY: the paths live.
    unsafe { done(libc::renameat2(libc::AT_FDCWD, c(from).as_ptr(), libc::AT_FDCWD, c(to).as_ptr(), flags)) }
}

/// unlink(2).
pub(crate) fn unlink(path: impl AsRef<Path>) -> io::Result<i64> {
    // SAFETY: the path lives.
    unsafe { done(libc::unlink(c(path).as_ptr())) }
}

/// rmdir(2).
pub(crate) fn rmdir(path: impl AsRef<Path>) -> io::Result<i64> {
    // SAFETY: the path lives.
    unsafe { done(libc::rmdir(c(path).as_ptr())) }
}

/// symlink(2).
pub(crate) fn symlink(target: impl AsRef<Path>, path: impl AsRef<Path>) -> io::Result<i64> {
    // SAFETY: the paths live.
    unsafe { done(libc::symlink(c(target).as_ptr(), c(path).as_ptr())) }
}

/// access(2) with the effective ids.
pub(crate) fn access(path: impl AsRef<Path>, mode: i32) -> io::Result<i64> {
    // SAFETY: the path lives.
    unsafe { done(libc::faccessat(libc::AT_FDCWD, c(path).as_ptr(), mode, libc::AT_EACCESS)) }
}

/// utimensat(2) with seconds and nanoseconds, also UTIME_NOW and UTIME_OMIT.
pub(crate) fn utimens(path: impl AsRef<Path>, atime: (i64, i64), mtime: (i64, i64)) -> io::Result<i64> {
    let time = |(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec };
    let times = [time(atime), time(mtime)];
    // SAFETY: path and times live.
    unsafe { done(libc::utimensat(libc::AT_FDCWD, c(path).as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)) }
}

/// setxattr(2), not through symlinks.
pub(crate) fn setxattr(path: impl AsRef<Path>, name: &str, value: &[u8], flags: i32) -> io::Result<i64> {
    let (path, name) = (c(path), c(name));
    // SAFETY: path, name and value live.
    unsafe { done(libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags)) }
}

/// removexattr(2), not through symlinks.
pub(crate) fn removexattr(path: impl AsRef<Path>, name: &str) -> io::Result<i64> {
    // SAFETY: path and name live.
    unsafe { done(libc::lremovexattr(c(path).as_ptr(), c(name).as_ptr())) }
}

/// The mode as octal digits.
pub(crate) fn mode(path: impl AsRef<Path>) -> String {
    fs::symlink_metadata(path).map_or_else(|error| error.to_string(), |found| format!("{:o}", found.mode()))
}

/// Mode, user and group.
pub(crate) fn owner(path: impl AsRef<Path>) -> String {
    fs::symlink_metadata(path)
        .map_or_else(|error| error.to_string(), |found| format!("{:o} {}:{}", found.mode(), found.uid(), found.gid()))
}

/// Ids of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    /// User.
    pub(crate) uid: u32,
    /// First group.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: &'static [u32],
}

/// Nobody special.
pub(crate) const ALICE: User = User { uid: 12_001, gid: 12_001, groups: &[] };
/// Another.
pub(crate) const BOB: User = User { uid: 12_002, gid: 12_002, groups: &[] };
/// A group that is nobody's first.
pub(crate) const CLUB: u32 = 12_900;
/// Alice, also in that group.
pub(crate) const ALICE_OF_CLUB: User = User { uid: 12_001, gid: 12_001, groups: &[CLUB, 12_901] };

impl User {
    fn become_it(&self) -> io::Result<()> {
        // SAFETY: ids are numbers, and the list has that length.
        unsafe {
            done(libc::setgroups(self.groups.len(), self.groups.as_ptr()))?;
            done(libc::setresgid(self.gid, self.gid, self.gid))?;
            done(libc::setresuid(self.uid, self.uid, self.uid))?;
        }
        Ok(())
    }
}

/// Does something in a process of its own whose working directory is the folder, as another user if one
/// is given, and answers how it ended: `exit 0`, or the signal. What it sees is added.
pub(crate) fn child(seen: &mut Seen, folder: &Path, user: Option<User>, work: impl FnOnce(&mut Seen)) -> String {
    let (mut reader, mut writer) = io::pipe().expect("pipe");
    // SAFETY: the child calls nothing that another thread may hold a lock of, but for the allocator's,
    // which the C library takes care of.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
    if pid == 0 {
        drop(reader);
        let mut own = Seen::default();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            std::env::set_current_dir(folder).expect("chdir");
            if let Some(user) = user {
                user.become_it().expect("set ids");
            }
            work(&mut own);
        }));
        if let Err(panic) = ended {
            own.is("panic of a child", panic.downcast_ref::<String>().map_or("", String::as_str));
        }
        let _ = writer.write_all(&own.encode());
        // SAFETY: nothing of the parent's is run at exit.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("the child's pipe");
    seen.append_encoded(&bytes);
    let mut status = 0;
    // SAFETY: the status lives.
    unsafe { done(libc::waitpid(pid, &mut status, 0)).expect("waitpid") };
    if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("exit {}", libc::WEXITSTATUS(status))
    }
}

/// The same where the process must end by itself.
pub(crate) fn as_user(seen: &mut Seen, folder: &Path, user: User, work: impl FnOnce(&mut Seen)) {
    let end = child(seen, folder, Some(user), work);
    assert_eq!(end, "exit 0");
}

/// getxattr(2), not through symlinks.
pub(crate) fn getxattr(path: impl AsRef<Path>, name: &str) -> io::Result<Vec<u8>> {
    let (path, name, mut value) = (c(path), c(name), vec![0_u8; 70_000]);
    // SAFETY: path, name and value live.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    done(length as i64).map(|length| value[..length as usize].to_vec())
}

/// Drops a value that does not matter, also one that is a plain number.
pub(crate) fn ignore<T>(_: T) {}

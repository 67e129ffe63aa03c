//! A process that takes locks as it is told, a line a command on standard input, a line an answer: `ok`,
//! `errno N`, or what was asked for. Made for tests that need locks of more than one process; the commands
//! are those of `harness::Locker`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

type Files = BTreeMap<String, OwnedFd>;

fn main() {
    // A shell that starts tests in the background has it ignored.
    // SAFETY: nothing of this process depends on it.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    let mut files = Files::new();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.split_first() {
            // Another thread of the process, with a number of its own.
            Some((&"thread", words)) => std::thread::scope(|scope| {
                let files = &mut files;
                scope.spawn(move || carry_out(files, words)).join().expect("no command panics")
            }),
            _ => carry_out(&mut files, &words),
        };
        let answer = answer.unwrap_or_else(|error| format!("errno {}", error.raw_os_error().unwrap_or(0)));
        let mut out = io::stdout().lock();
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn carry_out(files: &mut Files, words: &[&str]) -> io::Result<String> {
    let done = || "ok".to_owned();
    match *words {
        ["open", name, mode, path] => {
            let flags = if mode == "r" { libc::O_RDONLY } else { libc::O_RDWR | libc::O_CREAT };
            files.insert(name.to_owned(), open(path, flags)?);
        }
        ["close", name] => drop(files.remove(name)),
        ["dup", name, copy] => {
            let copied = file(files, name)?.try_clone_to_owned()?;
            files.insert(copy.to_owned(), copied);
        }
        ["flock", name, kind, wait] => flock(file(files, name)?.as_raw_fd(), kind, wait == "wait")?,
        ["posix", name, kind, start, length, wait] => {
            let command = if wait == "wait" { libc::F_SETLKW } else { libc::F_SETLK };
            fcntl(file(files, name)?.as_raw_fd(), command, &mut range(kind, start, length)?)?;
        }
        ["ofd", name, kind, start, length, wait] => {
            let command = if wait == "wait" { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK };
            fcntl(file(files, name)?.as_raw_fd(), command, &mut range(kind, start, length)?)?;
        }
        [which @ ("get" | "getofd"), name, kind, start, length] => {
            let command = if which == "get" { libc::F_GETLK } else { libc::F_OFD_GETLK };
            let mut asked = range(kind, start, length)?;
            fcntl(file(files, name)?.as_raw_fd(), command, &mut asked)?;
            return Ok(told(&asked));
        }
        ["fork"] => return Ok(fork()?.to_string()),
        ["catch", "interrupt"] => catch_interrupt()?,
        ["count", how, rounds, path] => {
            let rounds = rounds.parse().map_err(|_| invalid())?;
            for _ in 0..rounds {
                count_up(path, how)?;
            }
        }
        _ => return Err(invalid()),
    }
    Ok(done())
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn file<'f>(files: &'f Files, name: &str) -> io::Result<BorrowedFd<'f>> {
    use std::os::fd::AsFd;
    files.get(name).map(AsFd::as_fd).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
}

fn open(path: &str, flags: i32) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: the path ends with a NUL; the descriptor is new and nobody else's.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o644))?)) }
}

fn flock(fd: RawFd, kind: &str, wait: bool) -> io::Result<()> {
    let operation = match kind {
        "sh" => libc::LOCK_SH,
        "ex" => libc::LOCK_EX,
        "un" => libc::LOCK_UN,
        _ => return Err(invalid()),
    };
    let operation = if wait { operation } else { operation | libc::LOCK_NB };
    // SAFETY: no memory is handed over.
    check(unsafe { libc::flock(fd, operation) }).map(|_| ())
}

fn range(kind: &str, start: &str, length: &str) -> io::Result<libc::flock> {
    // SAFETY: all fields are numbers, for which zeros are values.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = match kind {
        "rd" => libc::F_RDLCK as libc::c_short,
        "wr" => libc::F_WRLCK as libc::c_short,
        "un" => libc::F_UNLCK as libc::c_short,
        _ => return Err(invalid()),
    };
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = start.parse().map_err(|_| invalid())?;
    range.l_len = length.parse().map_err(|_| invalid())?;
    Ok(range)
}

fn fcntl(fd: RawFd, command: i32, range: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the structure lives as long as the call.
    check(unsafe { libc::fcntl(fd, command, std::ptr::from_mut(range)) }).map(|_| ())
}

fn told(range: &libc::flock) -> String {
    let kind = match i32::from(range.l_type) {
        libc::F_RDLCK => "rd",
        libc::F_WRLCK => "wr",
        _ => return "free".to_owned(),
    };
    format!("{kind} {} {} {}", range.l_start, range.l_len, range.l_pid)
}

/// A child that has all open files and does nothing until it is killed.
fn fork() -> io::Result<i32> {
    // SAFETY: the child makes only system calls.
    match check(unsafe { libc::fork() })? {
        0 => loop {
            // SAFETY: no memory is handed over.
            unsafe { libc::pause() };
        },
        child => Ok(child),
    }
}

/// From here on SIGINT ends a call and nothing else.
fn catch_interrupt() -> io::Result<()> {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: a handler that does nothing may run at any time; without SA_RESTART it ends calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        check(libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut())).map(|_| ())
    }
}

/// Adds one to the number in a file, under a lock of the whole file.
fn count_up(path: &str, how: &str) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(open(path, libc::O_RDWR)?);
    let fd = file.as_raw_fd();
    match how {
        "flock" => flock(fd, "ex", true)?,
        "posix" => fcntl(fd, libc::F_SETLKW, &mut range("wr", "0", "0")?)?,
        "ofd" => fcntl(fd, libc::F_OFD_SETLKW, &mut range("wr", "0", "0")?)?,
        _ => return Err(invalid()),
    }
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0)?;
    file.write_all_at(&(u64::from_le_bytes(bytes) + 1).to_le_bytes(), 0)?;
    match how {
        "flock" => flock(fd, "un", true),
        // The close lets go of it.
        _ => Ok(()),
    }
}

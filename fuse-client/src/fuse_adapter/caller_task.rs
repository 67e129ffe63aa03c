//! The task that waits for the answer to a request, as /proc shows it: which system call it is in, and
//! whether a signal waits for it. The kernel says in a request for a lock whether it is flock's, but
//! fuser does not pass that on; and it would say that the caller was interrupted, but fuser answers
//! that it does not want to know. The task sleeps until it is answered, so it can be looked at.
//!
//! A caller that this mount cannot look at (in a process namespace that is none of its own, or not its
//! to look at) has no task here.

use std::sync::LazyLock;
use std::time::Duration;

use cairn_common::blocking;

/// Pauses between looks at a task that is not off its processor yet, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// A task that was not seen asleep for so long is not waiting for us.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often signals are looked for, in the first looks and later: many may wait for long.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);
const LATER_SIGNAL_INTERVAL: Duration = Duration::from_millis(100);
const FIRST_LOOKS: u32 = 100;
/// flock, fcntl and fcntl64 of 32-bit programs on x86 and ARM. No native call of these numbers locks.
const FLOCK_32: i64 = 143;
const FCNTL_32: [i64; 2] = [55, 221];
/// Of <linux/fcntl.h>: F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW.
const OFD_COMMANDS: std::ops::RangeInclusive<u64> = 36..=38;

/// What a caller asked for a lock with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockCall {
    Flock,
    Posix,
    Ofd,
    /// It cannot be seen.
    Unseen,
}

/// Whether /proc shows the process namespace that the numbers of callers are from, and not one in which
/// they are others'.
static PROC_IS_OURS: LazyLock<bool> = LazyLock::new(|| {
    let own = std::fs::read_link("/proc/self");
    let is_ours = own.is_ok_and(|own| own.as_os_str() == std::process::id().to_string().as_str());
    if !is_ours {
        tracing::warn!("/proc is of another process namespace: callers of locks cannot be told apart");
    }
    is_ours
});

/// Whether callers can be looked at.
pub(super) fn sees_callers() -> bool {
    *PROC_IS_OURS
}

/// A thread, by its number in this mount's process namespace; 0 is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallerTask(u32);

impl CallerTask {
    /// The thread that has sent a request.
    pub(super) fn of(number: u32) -> Self {
        Self(if sees_callers() { number } else { 0 })
    }

    /// What it asks for a lock with.
    pub(super) async fn lock_call(self) -> LockCall {
        if self.0 == 0 {
            return LockCall::Unseen;
        }
        let (mut pause, mut waited) = (FIRST_PAUSE, Duration::ZERO);
        while waited < PATIENCE {
            match self.read("syscall").await.as_deref().map(lock_call_of) {
                Some(Seen::Call(call)) => return call,
                Some(Seen::Running) => {}
                Some(Seen::Other) | None => return LockCall::Unseen,
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        LockCall::Unseen
    }

    /// Ready when a signal waits for the task that ends its call. Never, if it cannot be seen.
    pub(super) async fn interrupted(self) {
        let mut looks = 0_u32;
        loop {
            let pause = if looks < FIRST_LOOKS { SIGNAL_INTERVAL } else { LATER_SIGNAL_INTERVAL };
            tokio::time::sleep(pause).await;
            looks = looks.saturating_add(1);
            let task = self;
            let looking = blocking::run(move || task.has_signal());
            if looking.await.unwrap_or(false) {
                return;
            }
        }
    }

    /// Whether the task can be seen at all.
    pub(super) fn is_visible(self) -> bool {
        self.0 != 0 && self.signals().is_some()
    }

    /// Whether the process of this number is gone, or only waits for its parent to ask. Not, if it cannot be
    /// seen.
    pub(super) async fn is_gone(self) -> bool {
        let task = self;
        self.0 != 0 && blocking::run(move || task.has_ended()).await.unwrap_or(false)
    }

    fn has_ended(self) -> bool {
        match std::fs::read_to_string(format!("/proc/{}/status", self.0)) {
            // Its first thread may have ended before others.
            Ok(status) => {
                let is_dead = status.lines().any(|line| line.starts_with("State:\tZ") || line.starts_with("State:\tX"));
                let threads = || std::fs::read_dir(format!("/proc/{}/task", self.0)).map_or(0, Iterator::count);
                is_dead && threads() <= 1
            }
            Err(error) => error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH),
        }
    }

    /// Whether its capabilities mean what this mount's would. Not, if it cannot be seen.
    pub(super) async fn shares_user_namespace(self) -> bool {
        let path = format!("/proc/{}/ns/user", self.0);
        let looking = blocking::run(move || {
            Some(std::fs::read_link(path).ok()? == std::fs::read_link("/proc/self/ns/user").ok()?)
        });
        looking.await.ok().flatten().unwrap_or(false)
    }

    /// A file of it in /proc; None if it cannot be seen.
    pub(super) async fn read(self, what: &'static str) -> Option<String> {
        let path = format!("/proc/{}/{what}", self.0);
        blocking::run(move || std::fs::read_to_string(path).ok()).await.ok().flatten()
    }

    /// A signal for the thread itself ends its call; fatal ones are for every thread. One for the process is
    /// for its first thread if that takes it; for another thread it counts only if nobody else takes
    /// it: the kernel picks one, and if it has picked another, this one must go on waiting.
    fn has_signal(self) -> bool {
        let Some(signals) = self.signals() else { return false };
        let taken = !signals.blocked;
        if signals.own & taken != 0 {
            return true;
        }
        let shared = signals.shared & taken & !signals.ignored;
        if shared == 0 || signals.process == self.0 {
            return shared != 0;
        }
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.0)) else { return false };
        let others = threads.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let left = others
            .filter(|thread| *thread != self.0)
            .filter_map(|thread| Self(thread).signals())
            .fold(shared, |left, other| left & other.blocked);
        left != 0
    }

    fn signals(self) -> Option<Signals> {
        Signals::of(&std::fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?)
    }
}

enum Seen {
    Call(LockCall),
    /// Not off its processor yet.
    Running,
    /// In no call that locks.
    Other,
}

/// A line of /proc/TID/syscall: the number of the call, then its arguments.
fn lock_call_of(line: &str) -> Seen {
    let mut words = line.split_ascii_whitespace();
    let number = words.next().unwrap_or_default();
    if number == "running" {
        return Seen::Running;
    }
    let Ok(number) = number.parse::<i64>() else { return Seen::Other };
    let command = words.nth(1).and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    if number == libc::SYS_flock || number == FLOCK_32 {
        return Seen::Call(LockCall::Flock);
    }
    match command {
        Some(command) if number == libc::SYS_fcntl || FCNTL_32.contains(&number) => {
            // Only the lower half of a command counts.
            let is_ofd = OFD_COMMANDS.contains(&(command & u64::from(u32::MAX)));
            Seen::Call(if is_ofd { LockCall::Ofd } else { LockCall::Posix })
        }
        _ => Seen::Other,
    }
}

/// Signals of a thread, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signals {
    process: u32,
    /// Wait for this thread.
    own: u64,
    /// Wait for any thread of the process.
    shared: u64,
    blocked: u64,
    ignored: u64,
}

impl Signals {
    fn of(status: &str) -> Option<Self> {
        let mut signals = Self::default();
        let mut found = 0;
        for line in status.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            let field = match name {
                "Tgid" => {
                    signals.process = value.parse().ok()?;
                    found += 1;
                    continue;
                }
                "SigPnd" => &mut signals.own,
                "ShdPnd" => &mut signals.shared,
                "SigBlk" => &mut signals.blocked,
                "SigIgn" => &mut signals.ignored,
                _ => continue,
            };
            *field = u64::from_str_radix(value, 16).ok()?;
            found += 1;
        }
        (found == 5).then_some(signals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Option<LockCall> {
        match lock_call_of(line) {
            Seen::Call(call) => Some(call),
            Seen::Running | Seen::Other => None,
        }
    }

    #[test]
    fn calls_are_told_apart() {
        let (flock, fcntl) = (libc::SYS_flock, libc::SYS_fcntl);
        assert_eq!(call(&format!("{flock} 0x3 0x2 0x0 0x0 0x0 0x0 0x7ffd 0x7f0e\n")), Some(LockCall::Flock));
        assert_eq!(call(&format!("{fcntl} 0x3 0x6 0x7ffd 0x0 0x0 0x0 0x7ffd 0x7f0e\n")), Some(LockCall::Posix));
        assert_eq!(call(&format!("{fcntl} 0x3 0x7 0x7ffd 0x0 0x0 0x0 0x7ffd 0x7f0e\n")), Some(LockCall::Posix));
        assert_eq!(call(&format!("{fcntl} 0x3 0x26 0x7ffd 0x0 0x0 0x0 0x7ffd 0x7f0e\n")), Some(LockCall::Ofd));
        assert_eq!(call("143 0x3 0x2 0x0 0x0 0x0 0x0 0xffd 0xf7\n"), Some(LockCall::Flock));
        assert_eq!(call("221 0x3 0x25 0x0 0x0 0x0 0x0 0xffd 0xf7\n"), Some(LockCall::Ofd));
        assert!(matches!(lock_call_of("running\n"), Seen::Running));
        assert!(matches!(lock_call_of("-1 0x7ffd 0x7f0e\n"), Seen::Other));
        assert!(matches!(lock_call_of(""), Seen::Other));
    }

    #[test]
    fn signals_are_read_from_the_status_of_a_thread() {
        let status = "Name:\tx\nTgid:\t70\nPid:\t71\nSigQ:\t1/2\nSigPnd:\t0000000000000100\n\
            ShdPnd:\t0000000000000002\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000001000\nSigCgt:\t0\n";
        let expected = Signals { process: 70, own: 0x100, shared: 2, blocked: 4, ignored: 0x1000 };
        assert_eq!(Signals::of(status), Some(expected));
        assert_eq!(Signals::of("Name:\tx\n"), None);
        let own = CallerTask(std::process::id()).signals().expect("this process can be seen");
        assert_eq!(own.process, std::process::id());
        assert!(!CallerTask(0).is_visible());
    }
}

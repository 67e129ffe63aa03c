//! A process of its own that takes locks as a test tells it ([`crate`]'s program `cairn-locker`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::process::{kill, wait_dead};
use super::programs::program;

/// Longest time until an answer of what does not wait.
const ANSWER: Duration = Duration::from_secs(45);

/// A process with open files and locks. Killed when dropped.
pub struct Locker {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Locker {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_by(Command::new(program("cairn-locker")))
    }

    /// Starts one by a command that runs it with its own standard input and output.
    pub fn start_by(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the locker is built and starts");
        let commands = child.stdin.take().expect("piped");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (found, answers) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if found.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, commands, answers }
    }

    /// One with a file open: for reading, or for reading and writing (and made if it is not there).
    pub fn with(name: &str, mode: &str, path: &Path) -> Self {
        let mut locker = Self::start();
        locker.open(name, mode, path);
        locker
    }

    /// Opens a file under a name: `r` or `w`.
    pub fn open(&mut self, name: &str, mode: &str, path: &Path) {
        let answer = self.ask(&format!("open {name} {mode} {}", path.display()));
        assert_eq!(answer, "ok", "open of {}", path.display());
    }

    /// Gives a command whose answer is waited for by [`Self::answer`].
    pub fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("the locker lives");
    }

    /// The answer to a command, if it comes within the time.
    pub fn answer(&self, within: Duration) -> Option<String> {
        self.answers.recv_timeout(within).ok()
    }

    /// A command and its answer.
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer(ANSWER).unwrap_or_else(|| panic!("no answer to {command:?} within {ANSWER:?}"))
    }

    /// A command that must be answered with this.
    #[track_caller]
    pub fn expect(&mut self, command: &str, expected: &str) {
        assert_eq!(self.ask(command), expected, "the answer to {command:?}");
    }

    /// A command that must be answered with this error.
    #[track_caller]
    pub fn refused(&mut self, command: &str, errno: i32) {
        self.expect(command, &format!("errno {errno}"));
    }

    /// Gives a command that must have to wait.
    #[track_caller]
    pub fn waits(&mut self, command: &str) {
        self.tell(command);
        let answer = self.answer(Duration::from_millis(400));
        assert_eq!(answer, None, "{command:?} was to wait");
    }

    /// The answer to a command that waited, and how long it took from now.
    #[track_caller]
    pub fn wakes(&self, expected: &str) -> Duration {
        let begun = Instant::now();
        let answer = self.answer(ANSWER);
        assert_eq!(answer.as_deref(), Some(expected), "the end of a wait");
        begun.elapsed()
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// kill -9; returns when it is gone, and how long that took.
    pub fn kill(&mut self) -> Duration {
        let begun = Instant::now();
        kill(self.pid());
        wait_dead(self.pid());
        let _ = self.child.wait();
        begun.elapsed()
    }

    /// Sends SIGINT.
    pub fn interrupt(&self) {
        super::process::signal(self.pid(), rustix::process::Signal::INT);
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        kill(self.pid());
        let _ = self.child.wait();
    }
}

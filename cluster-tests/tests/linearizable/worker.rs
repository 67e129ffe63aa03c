//! A program on one mount: random calls on names, and on files that it opens anew or keeps open.
//!
//! The tree is small, so that everybody meets: the root holds files and directories, these hold files and
//! directories, and the innermost hold files. A name is always of the same kind, and a directory never
//! changes its depth: Linux compares kinds and ancestors of two names with what it knows of each from
//! different moments, which no file system can make whole.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use cairn_cluster_tests::checker::{Call, Inode, Life, ROOT, Reply};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, StatxFlags, fsync, linkat, mkdirat, openat, renameat, statat, statx, unlinkat,
};
use rustix::io::Errno;

use super::content;
use super::handle::Handle;
use super::recorder::{Clock, Recorder, Seen, Span, is_unknown};

/// Files that a thread keeps open.
const HANDLES: usize = 4;
/// Directories that a mount keeps open besides the root.
const DIRECTORIES: usize = 6;
/// What directories of each depth hold.
const FILES: [&[&str]; 3] = [&["f0", "f1", "f2"], &["f0", "f1"], &["f0", "f1"]];
const FOLDERS: [&[&str]; 3] = [&["d0", "d1", "d2"], &["s0", "s1"], &[]];
const MODES: [u32; 4] = [0o600, 0o640, 0o644, 0o755];

/// A mount and the directories that its programs keep open.
pub(super) struct Site {
    life: Life,
    root: Directory,
    directories: Mutex<Vec<Directory>>,
}

#[derive(Clone)]
struct Directory {
    inode: Inode,
    depth: usize,
    fd: Arc<OwnedFd>,
}

/// What all programs share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) last_value: AtomicU32,
    /// Operations begun.
    pub(super) begun: AtomicU64,
    /// Longest rest between two operations.
    pub(super) rest: Duration,
}

impl Site {
    /// The mount with this number, from 0.
    pub(super) fn new(number: u32, root: &std::path::Path) -> Self {
        let fd = openat(rustix::fs::CWD, root, OFlags::DIRECTORY, Mode::empty()).expect("the mount opens");
        let inode = inode_of(&fd).expect("the root has a number");
        assert_eq!(inode, ROOT, "the checker knows the root by its number");
        let root = Directory { inode, depth: 0, fd: Arc::new(fd) };
        Self { life: Life { client: number, number: 1 }, root, directories: Mutex::default() }
    }

    fn keep(&self, directory: Directory, dice: &mut StdRng) {
        let mut kept = self.directories.lock();
        if kept.iter().any(|known| known.inode == directory.inode) {
            return;
        }
        if kept.len() == DIRECTORIES {
            let out = dice.random_range(0..DIRECTORIES);
            kept.swap_remove(out);
        }
        kept.push(directory);
    }
}

/// The number of what is open, as the kernel knows it, without a question to the file system.
fn inode_of(fd: &OwnedFd) -> Result<Inode, Errno> {
    let known = statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::INO)?;
    Ok(known.stx_ino)
}

/// A thread.
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    site: &'a Site,
    pub(super) recorder: Recorder<'a>,
    dice: StdRng,
    handles: Vec<Handle>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared, site: &'a Site, dice: StdRng) -> Self {
        let recorder = Recorder::new(&shared.clock, site.life);
        Self { shared, site, recorder, dice, handles: Vec::new() }
    }

    /// Works until `enough`.
    pub(super) fn work(mut self, enough: impl Fn(u64) -> bool) -> Seen {
        while !enough(self.shared.begun.fetch_add(1, Ordering::Relaxed)) {
            self.step();
            if !self.shared.rest.is_zero() {
                std::thread::sleep(self.shared.rest.mul_f64(self.dice.random()));
            }
        }
        self.recorder.seen
    }

    /// Looks at everything that has a name.
    pub(super) fn inspect(mut self) -> Seen {
        let mut directories = vec![self.site.root.clone()];
        while let Some(directory) = directories.pop() {
            self.list(&directory);
            for name in FILES[directory.depth] {
                self.stat(&directory, name);
                if let Some(handle) = self.open_file(&directory, name, false) {
                    handle.read(&mut self.recorder, 0, content::MOST_CELLS);
                    handle.stat(&mut self.recorder);
                }
            }
            directories.extend(FOLDERS[directory.depth].iter().filter_map(|name| self.open_folder(&directory, name)));
        }
        self.recorder.seen
    }

    fn step(&mut self) {
        let directory = self.directory();
        match self.dice.random_range(0..100) {
            0..7 => drop(self.create(&directory)),
            7..15 => self.unlink(&directory),
            15..18 => self.make_directory(&directory),
            18..22 => self.remove_directory(&directory),
            22..31 => self.rename(&directory),
            31..35 => self.link(&directory),
            35..44 => {
                let name = self.name(directory.depth);
                self.stat(&directory, name);
            }
            44..50 => self.list(&directory),
            50..55 => self.open_some_folder(&directory),
            55..58 if !self.handles.is_empty() => {
                let closed = self.dice.random_range(0..self.handles.len());
                drop(self.handles.swap_remove(closed));
            }
            _ => self.use_file(&directory),
        }
    }

    /// One or several calls on a file that is kept open, or opened for it.
    fn use_file(&mut self, directory: &Directory) {
        let kept = (!self.handles.is_empty() && self.dice.random_bool(0.6)).then(|| {
            let index = self.dice.random_range(0..self.handles.len());
            self.handles.swap_remove(index)
        });
        let handle = kept.or_else(|| {
            let name = *FILES[directory.depth].choose(&mut self.dice)?;
            let truncates = self.dice.random_bool(0.1);
            self.open_file(directory, name, truncates)
        });
        let Some(handle) = handle else { return };
        for _ in 0..self.dice.random_range(1..3) {
            self.use_handle(&handle);
        }
        if self.handles.len() < HANDLES && self.dice.random_bool(0.7) {
            self.handles.push(handle);
        }
    }

    fn use_handle(&mut self, handle: &Handle) {
        let cell = self.dice.random_range(0..8);
        let cells = self.dice.random_range(1..5);
        match self.dice.random_range(0..100) {
            0..35 => handle.read(&mut self.recorder, 0, content::MOST_CELLS),
            35..42 => handle.read(&mut self.recorder, cell, cells),
            42..57 => drop(handle.stat(&mut self.recorder)),
            57..84 => {
                let value = self.shared.last_value.fetch_add(1, Ordering::Relaxed) + 1;
                handle.write(&mut self.recorder, cell, if handle.appends { 1 } else { cells }, value);
            }
            84..90 => handle.truncate(&mut self.recorder, cell),
            90..95 => {
                let mode = *MODES.choose(&mut self.dice).expect("not empty");
                handle.change_mode(&mut self.recorder, mode);
            }
            _ => {
                let (result, span) = self.recorder.call("fsync", || fsync(&handle.fd));
                self.recorder.done(span, Call::Sync { inode: handle.inode }, &result);
            }
        }
    }

    fn directory(&mut self) -> Directory {
        let kept = self.site.directories.lock();
        match kept.choose(&mut self.dice) {
            Some(directory) if self.dice.random_bool(0.65) => directory.clone(),
            _ => self.site.root.clone(),
        }
    }

    /// A name that directories of this depth may hold.
    fn name(&mut self, depth: usize) -> &'static str {
        let all: Vec<&'static str> = FILES[depth].iter().chain(FOLDERS[depth]).copied().collect();
        all.choose(&mut self.dice).expect("every depth has names")
    }

    fn create(&mut self, directory: &Directory) -> Option<()> {
        let name = *FILES[directory.depth].choose(&mut self.dice)?;
        let exclusive = self.dice.random_bool(0.6);
        let flags = OFlags::CREATE | OFlags::RDWR | if exclusive { OFlags::EXCL } else { OFlags::empty() };
        let appends = self.dice.random_bool(0.3);
        let flags = flags | if appends { OFlags::APPEND } else { OFlags::empty() };
        let mode = Mode::from_raw_mode(0o644);
        let (result, span) = self.recorder.call("create", || openat(&*directory.fd, name, flags, mode));
        let call = Call::Create { directory: directory.inode, name: name.into(), exclusive };
        let handle = self.opened(span, call, result, appends)?;
        if self.handles.len() < HANDLES {
            self.handles.push(handle);
        }
        Some(())
    }

    /// Opens a file by its name, for reading and writing.
    fn open_file(&mut self, directory: &Directory, name: &str, truncates: bool) -> Option<Handle> {
        let appends = self.dice.random_bool(0.3);
        let flags = OFlags::RDWR | if appends { OFlags::APPEND } else { OFlags::empty() };
        let flags = flags | if truncates { OFlags::TRUNC } else { OFlags::empty() };
        let (result, span) = self.recorder.call("open", || openat(&*directory.fd, name, flags, Mode::empty()));
        let call = Call::Lookup { directory: directory.inode, name: name.into() };
        if truncates && result.as_ref().is_err_and(|error| is_unknown(*error)) {
            self.recorder.broken(format!("{call:?}: which file it truncates is not known: {result:?}"));
        }
        let handle = self.opened(span, call, result, appends);
        if let Some(handle) = handle.as_ref().filter(|_| truncates) {
            self.recorder.fact(span, Call::Truncate { inode: handle.inode, cells: 0 }, Reply::Done);
        }
        handle
    }

    /// What an open tells.
    fn opened(&mut self, span: Span, call: Call, result: Result<OwnedFd, Errno>, appends: bool) -> Option<Handle> {
        let opened = result.and_then(|fd| Ok((inode_of(&fd)?, fd)));
        let reply = match &opened {
            Ok((inode, _)) => Reply::Node(*inode),
            Err(error) => self.recorder.failure(&call, *error),
        };
        self.recorder.fact(span, call, reply);
        let (inode, fd) = opened.ok()?;
        Some(Handle { inode, fd, appends })
    }

    fn open_some_folder(&mut self, directory: &Directory) {
        if let Some(name) = FOLDERS[directory.depth].choose(&mut self.dice) {
            self.open_folder(directory, name);
        }
    }

    fn open_folder(&mut self, directory: &Directory, name: &str) -> Option<Directory> {
        let flags = OFlags::DIRECTORY;
        let (result, span) = self.recorder.call("open folder", || openat(&*directory.fd, name, flags, Mode::empty()));
        let call = Call::Lookup { directory: directory.inode, name: name.into() };
        let Handle { inode, fd, .. } = self.opened(span, call, result, false)?;
        let found = Directory { inode, depth: directory.depth + 1, fd: Arc::new(fd) };
        self.site.keep(found.clone(), &mut self.dice);
        Some(found)
    }

    fn make_directory(&mut self, directory: &Directory) {
        let Some(name) = FOLDERS[directory.depth].choose(&mut self.dice).copied() else { return };
        let (result, span) = self.recorder.call("mkdir", || mkdirat(&*directory.fd, name, Mode::from_raw_mode(0o755)));
        let call = Call::MakeDirectory { directory: directory.inode, name: name.into() };
        self.recorder.done(span, call, &result);
        if result.is_ok() {
            self.open_folder(directory, name);
        }
    }

    fn remove_directory(&mut self, directory: &Directory) {
        let Some(name) = FOLDERS[directory.depth].choose(&mut self.dice).copied() else { return };
        let (result, span) = self.recorder.call("rmdir", || unlinkat(&*directory.fd, name, AtFlags::REMOVEDIR));
        let call = Call::RemoveDirectory { directory: directory.inode, name: name.into() };
        self.recorder.done(span, call, &result);
    }

    fn unlink(&mut self, directory: &Directory) {
        let name = self.name(directory.depth);
        let (result, span) = self.recorder.call("unlink", || unlinkat(&*directory.fd, name, AtFlags::empty()));
        self.recorder.done(span, Call::Unlink { directory: directory.inode, name: name.into() }, &result);
    }

    fn rename(&mut self, from: &Directory) {
        let to = if self.dice.random_bool(0.5) { from.clone() } else { self.directory() };
        let folders = from.depth == to.depth && self.dice.random_bool(0.25);
        let names = if folders { FOLDERS } else { FILES };
        let (Some(old), Some(new)) = (names[from.depth].choose(&mut self.dice), names[to.depth].choose(&mut self.dice))
        else {
            return;
        };
        let (result, span) = self.recorder.call("rename", || renameat(&*from.fd, *old, &*to.fd, *new));
        let call = Call::Rename { from: (from.inode, (*old).into()), to: (to.inode, (*new).into()) };
        let reply = match result {
            Ok(()) => Reply::DoneOrSame,
            Err(error) => self.recorder.failure(&call, error),
        };
        self.recorder.fact(span, call, reply);
    }

    /// A name more for a file that is kept open.
    fn link(&mut self, directory: &Directory) {
        let Some(handle) = self.handles.choose(&mut self.dice) else { return };
        let Some(name) = FILES[directory.depth].choose(&mut self.dice) else { return };
        let (result, span) =
            self.recorder.call("link", || linkat(&handle.fd, "", &*directory.fd, *name, AtFlags::EMPTY_PATH));
        let call = Call::Link { inode: handle.inode, directory: directory.inode, name: (*name).into() };
        // Linux answers that itself, from a number of links that it has counted down without asking.
        if result != Err(Errno::NOENT) {
            self.recorder.done(span, call, &result);
        }
    }

    /// stat of a name: which inode, and of a file what it says about it, each seen at its own moment.
    fn stat(&mut self, directory: &Directory, name: &str) {
        let (result, span) = self.recorder.call("stat", || statat(&*directory.fd, name, AtFlags::SYMLINK_NOFOLLOW));
        let call = Call::Lookup { directory: directory.inode, name: name.into() };
        match result {
            Ok(found) => {
                self.recorder.fact(span, call, Reply::Node(found.st_ino));
                if name.starts_with('f') {
                    content::attributes(&mut self.recorder, span, found.st_ino, &found);
                }
            }
            Err(error) => {
                let reply = self.recorder.failure(&call, error);
                self.recorder.fact(span, call, reply);
            }
        }
    }

    /// A listing: of each name that may be there whether it is, each seen at its own moment.
    fn list(&mut self, directory: &Directory) {
        let (result, span) = self.recorder.call("readdir", || {
            let entries: Vec<_> = Dir::read_from(&*directory.fd)?.collect::<Result<_, _>>()?;
            let name = |entry: &rustix::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
            Ok(entries.iter().map(|entry| (name(entry), entry.ino())).collect::<Vec<_>>())
        });
        let found = match result {
            Ok(found) => found,
            Err(error) => {
                let call = Call::List { directory: directory.inode };
                let reply = self.recorder.failure(&call, error);
                return self.recorder.fact(span, call, reply);
            }
        };
        for name in FILES[directory.depth].iter().chain(FOLDERS[directory.depth]) {
            let inodes: Vec<Inode> = found.iter().filter(|(found, _)| found == name).map(|(_, inode)| *inode).collect();
            let call = || Call::Lookup { directory: directory.inode, name: (*name).into() };
            if inodes.is_empty() {
                self.recorder.fact(span, call(), Reply::Refused("not listed".into()));
            }
            if inodes.len() > 1 {
                self.recorder.broken(format!("{name} is listed twice in {}: {inodes:?}", directory.inode));
            }
            inodes.into_iter().for_each(|inode| self.recorder.fact(span, call(), Reply::Node(inode)));
        }
        let known = |name: &str| {
            [".", ".."].contains(&name)
                || FILES[directory.depth].contains(&name)
                || FOLDERS[directory.depth].contains(&name)
        };
        if let Some((name, _)) = found.iter().find(|(name, _)| !known(name)) {
            self.recorder.broken(format!("{name:?} is listed in {}, and nobody made it", directory.inode));
        }
    }
}

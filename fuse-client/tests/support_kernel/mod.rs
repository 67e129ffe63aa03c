//! A tiny file system in memory that the kernel may believe for an hour, whose answers a test can hold
//! back. Only for tests of what the kernel does with notifications.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use cairn_mount::fuse_adapter::notifier::Notifier;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, SessionACL, WriteFlags,
};
use parking_lot::{Condvar, Mutex};

const TTL: Duration = Duration::from_secs(3600);
/// Longest wait for something that must happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// An answer that has been made and not been given yet.
type Answer = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// Names of the root, with what they lead to.
    names: BTreeMap<String, Node>,
    asked: BTreeMap<&'static str, u32>,
    holding: Option<&'static str>,
    held: Vec<Answer>,
}

#[derive(Clone)]
struct Node {
    number: u64,
    kind: FileType,
    contents: Vec<u8>,
}

/// What the test and the file system share.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

/// A mounted file system. Unmounted when dropped.
pub(crate) struct Mounted {
    pub(crate) shared: Arc<Shared>,
    pub(crate) notifier: Notifier,
    pub(crate) fuser: fuser::Notifier,
    folder: tempfile::TempDir,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts a file system whose root is empty.
    pub(crate) fn new() -> Self {
        let shared = Arc::<Shared>::default();
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("cairn-test".into()), MountOption::DefaultPermissions];
        config.acl = SessionACL::All;
        config.n_threads = Some(2);
        config.clone_fd = true;
        let session = Session::new(TestFilesystem { shared: shared.clone() }, folder.path(), &config).unwrap();
        let notifier = Notifier::new(&session).unwrap();
        let fuser = session.notifier();
        Self { shared, notifier, fuser, folder, session: Some(session.spawn().unwrap()) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.shared.release();
        self.session.take().unwrap().umount_and_join().unwrap();
    }
}

impl Shared {
    /// Changes what a name leads to, behind the kernel's back.
    pub(crate) fn put(&self, name: &str, number: u64, contents: &[u8]) {
        let node = Node { number, kind: FileType::RegularFile, contents: contents.to_vec() };
        self.state.lock().names.insert(name.into(), node);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.state.lock().names.remove(name);
    }

    pub(crate) fn contents(&self, name: &str) -> Vec<u8> {
        self.state.lock().names[name].contents.clone()
    }

    /// How often the kernel has asked this.
    pub(crate) fn asked(&self, operation: &'static str) -> u32 {
        self.state.lock().asked.get(operation).copied().unwrap_or(0)
    }

    /// From now on answers of this operation are made and not given.
    pub(crate) fn hold(&self, operation: &'static str) {
        self.state.lock().holding = Some(operation);
    }

    /// Until an answer is held back.
    pub(crate) fn wait_until_held(&self) {
        let mut state = self.state.lock();
        while state.held.is_empty() {
            assert!(!self.arrived.wait_for(&mut state, SOON).timed_out(), "the kernel did not ask");
        }
    }

    /// Gives the answers that were held back, and holds no more back.
    pub(crate) fn release(&self) {
        let held = {
            let mut state = self.state.lock();
            state.holding = None;
            std::mem::take(&mut state.held)
        };
        held.into_iter().for_each(|answer| answer());
    }

    /// Counts a request, makes its answer from the present state, and gives it or holds it back.
    fn answer<A: FnOnce() + Send + 'static>(&self, operation: &'static str, make: impl FnOnce(&mut State) -> A) {
        let mut state = self.state.lock();
        *state.asked.entry(operation).or_default() += 1;
        let answer = make(&mut state);
        if state.holding == Some(operation) {
            state.held.push(Box::new(answer));
            self.arrived.notify_all();
        } else {
            drop(state);
            answer();
        }
    }
}

impl State {
    fn by_number(&self, number: INodeNo) -> Option<Node> {
        if number == INodeNo::ROOT {
            return Some(Node { number: 1, kind: FileType::Directory, contents: Vec::new() });
        }
        self.names.values().find(|node| node.number == number.0).cloned()
    }
}

impl Node {
    fn attr(&self) -> FileAttr {
        FileAttr {
            ino: INodeNo(self.number),
            size: self.contents.len() as u64,
            blocks: 1,
            // Never changes: only a notification tells the kernel that pages are old.
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: self.kind,
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

struct TestFilesystem {
    shared: Arc<Shared>,
}

impl fuser::Filesystem for TestFilesystem {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = InitFlags::FUSE_AUTO_INVAL_DATA | InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_PARALLEL_DIROPS;
        config.add_capabilities(wanted).map_err(|missing| std::io::Error::other(format!("{missing:?}")))
    }

    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_string_lossy().into_owned();
        self.shared.answer("lookup", |state| {
            // Number 0 says that there is no such name, for as long as the TTL says.
            let absent = Node { number: 0, kind: FileType::RegularFile, contents: Vec::new() };
            let attr = state.names.get(&name).unwrap_or(&absent).attr();
            move || reply.entry(&TTL, &attr, Generation(0))
        });
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.shared.answer("getattr", |state| {
            let node = state.by_number(ino);
            move || match node {
                Some(node) => reply.attr(&TTL, &node.attr()),
                None => reply.error(Errno::ESTALE),
            }
        });
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.shared.answer("open", |_| move || reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE));
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let name = name.to_string_lossy().into_owned();
        self.shared.answer("create", |state| {
            let number = 1000 + state.names.len() as u64;
            let node = Node { number, kind: FileType::RegularFile, contents: Vec::new() };
            let attr = node.attr();
            state.names.insert(name, node);
            move || reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE)
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.shared.answer("read", |state| {
            let contents = state.by_number(ino).map(|node| node.contents).unwrap_or_default();
            let from = contents.len().min(offset as usize);
            let to = contents.len().min(from + size as usize);
            move || reply.data(&contents[from..to])
        });
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = data.len() as u32;
        self.shared.answer("write", |state| {
            let node = state.names.values_mut().find(|node| node.number == ino.0).unwrap();
            let end = offset as usize + data.len();
            node.contents.resize(end.max(node.contents.len()), 0);
            node.contents[offset as usize..end].copy_from_slice(data);
            move || reply.written(written)
        });
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdirplus(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.shared.answer("readdirplus", |state| {
            if offset == 0 {
                for (number, (name, node)) in state.names.iter().enumerate() {
                    let ino = INodeNo(node.number);
                    let full = reply.add(ino, number as u64 + 1, name, &TTL, &node.attr(), Generation(0));
                    assert!(!full, "the test's folder is small");
                }
            }
            move || reply.ok()
        });
    }
}

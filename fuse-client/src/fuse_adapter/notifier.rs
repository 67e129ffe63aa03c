//! Tells the kernel what it must not believe any longer: messages written to a duplicate of fuser's
//! descriptor. Not through fuser, which lacks FUSE_NOTIFY_INC_EPOCH and does not say whether the kernel
//! had what was to go; here that matters.
//!
//! Attributes and names are told on the calling thread: neither waits for a lock that a request to
//! this mount can hold. Pages and directories do wait (for a page that is being read or written back,
//! for a listing or a create), so they are told by threads of their own, and only awaited.
//!
//! What the kernel (6.18) makes of an answer that is on its way while it is told:
//!
//! - Names in answers to lookups and creates belong to the epoch in which the request was made, so they
//!   fall with it. Names in answers to READDIRPLUS belong to the epoch in which the kernel reads the
//!   answer: it is told again when [`Notifier::listings_read`] says that they were read.
//! - Attributes in answers to GETATTR, to lookups and in listings are believed only if the kernel has
//!   not been told of the inode since the request (`attr_version`), but an inode that it does not have
//!   yet has no version: hence [`Told::Unknown`]. In answers to everything that changes an inode or
//!   makes one they are believed always: those answers must say themselves that they may not be kept.
//! - A new epoch unhashes a name at its next use, so whatever is mounted on a directory in here is
//!   unmounted by it, and an open file's name in /proc gets "(deleted)" put behind it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use cairn_common::ids::InodeId;
use fuser::Session;
use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

/// Codes of the kernel's `enum fuse_notify_code`. The epoch is of protocol 7.44 (Linux 6.16).
const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
const INC_EPOCH: i32 = 8;
/// An offset that says: no pages.
const NO_PAGES: i64 = -1;
/// Threads that wait for pages: so many files in use do not hold up each other.
const PAGE_THREADS: usize = 4;
/// Threads that wait for directories: apart, because creates hold those for as long as servers take.
const DIRECTORY_THREADS: usize = 2;
/// What may wait for them; beyond it the caller waits.
const QUEUE: usize = 256;

/// What the kernel had of what it was told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It knew the inode, and believes no answer that is on its way.
    Known,
    /// It does not know the inode. If an answer is on its way that brings it, that will be believed.
    Unknown,
}

/// Sends notifications to the kernel. They concern one mount and end with it.
#[derive(Debug)]
pub struct Notifier {
    device: Arc<File>,
    has_epochs: bool,
    pages: mpsc::Sender<Job>,
    directories: mpsc::Sender<Job>,
}

/// A message whose writing may wait for a lock of the kernel's, and who waits for it.
#[derive(Debug)]
struct Job {
    code: i32,
    body: Vec<u8>,
    told: oneshot::Sender<io::Result<Told>>,
}

impl Notifier {
    /// A notifier of a session that is mounted and not yet served.
    ///
    /// # Errors
    /// Of the descriptor and of starting threads.
    pub fn new<F: fuser::Filesystem>(session: &Session<F>) -> io::Result<Self> {
        let device = Arc::new(File::from(session.as_fd().try_clone_to_owned()?));
        // Nobody has looked anything up yet: what this forgets is nothing.
        let has_epochs = match send(&device, INC_EPOCH, &[]) {
            Ok(_) => true,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
            Err(error) => return Err(error),
        };
        let pages = start_threads("notify-pages", PAGE_THREADS, &device)?;
        let directories = start_threads("notify-names", DIRECTORY_THREADS, &device)?;
        Ok(Self { device, has_epochs, pages, directories })
    }

    /// Whether [`Notifier::names`] works: Linux 6.16 and later. Without it the kernel may keep no name.
    pub fn has_epochs(&self) -> bool {
        self.has_epochs
    }

    /// Every name that was looked up before this moment, present or absent, is asked for again when it
    /// is used next. FUSE_NOTIFY_INVAL_ENTRY, which is about one name, cannot be used: it takes the
    /// directory's lock, which every create there holds until it is answered.
    ///
    /// # Errors
    /// Of the descriptor; the kernel may then still believe names.
    pub fn names(&self) -> io::Result<()> {
        send(&self.device, INC_EPOCH, &[]).map(|_| ())
    }

    /// The attributes of an inode are asked for again when they are used next.
    ///
    /// # Errors
    /// Of the descriptor; the kernel may then still believe the attributes.
    pub fn attributes(&self, inode: InodeId) -> io::Result<Told> {
        send(&self.device, INVAL_INODE, &inval_inode(inode, NO_PAGES))
    }

    /// The same for attributes, and the pages of the file go. Pages that a program has changed through
    /// a mapping come as WRITE requests before this returns, so the caller must not stop taking in
    /// writes, or answering reads, until then.
    ///
    /// # Errors
    /// Of the descriptor; EBUSY when programs changed mapped pages meanwhile.
    pub async fn pages(&self, inode: InodeId) -> io::Result<Told> {
        wait(&self.pages, INVAL_INODE, inval_inode(inode, 0)).await
    }

    /// Until the kernel has read every answer to a listing of this directory that was given before.
    /// Waits also for creates, unlinks and renames in it: whoever has to answer one of those must not
    /// wait for this.
    ///
    /// # Errors
    /// Of the descriptor; listings may then still be on their way.
    pub async fn listings_read(&self, directory: InodeId) -> io::Result<()> {
        // To look for a name that cannot be, it takes the lock that a listing holds until it is read.
        let mut body = Vec::with_capacity(18);
        body.extend_from_slice(&directory.0.to_ne_bytes());
        body.extend_from_slice(&1_u32.to_ne_bytes());
        body.extend_from_slice(&0_u32.to_ne_bytes());
        body.extend_from_slice(b"/\0");
        wait(&self.directories, INVAL_ENTRY, body).await.map(|_| ())
    }
}

/// Has a message written by the threads of a queue.
async fn wait(queue: &mpsc::Sender<Job>, code: i32, body: Vec<u8>) -> io::Result<Told> {
    let (told, answer) = oneshot::channel();
    let gone = || io::Error::other("the threads of the notifier are gone");
    queue.send(Job { code, body, told }).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// `struct fuse_notify_inval_inode_out`; length 0: to the end.
fn inval_inode(inode: InodeId, offset: i64) -> Vec<u8> {
    [inode.0.to_ne_bytes(), offset.to_ne_bytes(), 0_i64.to_ne_bytes()].concat()
}

fn start_threads(name: &str, count: usize, device: &Arc<File>) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let queue = Arc::new(Mutex::new(queue));
    for number in 0..count {
        let (device, queue) = (device.clone(), queue.clone());
        std::thread::Builder::new().name(format!("{name}-{number}")).spawn(move || work(&device, &queue))?;
    }
    Ok(jobs)
}

/// Runs until the notifier is gone.
fn work(device: &File, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // The lock is held while waiting: the others wait for it instead of for the queue.
        let job = queue.lock().blocking_recv();
        let Some(Job { code, body, told }) = job else { return };
        // Who asked may have given up.
        let _ = told.send(send(device, code, &body));
    }
}

/// Writes one message. Its `struct fuse_out_header` has no request to answer (unique 0), and its code
/// in the place of the error.
fn send(device: &File, code: i32, body: &[u8]) -> io::Result<Told> {
    let length = 16 + body.len() as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&code.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    message.extend_from_slice(body);
    // One write is one message, and the kernel takes all of it or none.
    match rustix::io::write(device, &message) {
        Ok(written) if written == message.len() => Ok(Told::Known),
        Ok(written) => Err(io::Error::other(format!("the kernel took {written} bytes of {length}"))),
        // It has not, or has unmounted and has nothing any more.
        Err(Errno::NOENT | Errno::NODEV | Errno::NOTCONN) => Ok(Told::Unknown),
        Err(error) => Err(error.into()),
    }
}

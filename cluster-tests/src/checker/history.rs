//! What the clients did and saw: one operation after another with the order of its begin and its end.
//! [`History`] may be shared by threads: an operation begins before its call is made and ends when it has
//! returned, so that real time is within what is recorded. In a simulation the order is that in which it
//! ran; what happens on two machines within one tick cannot influence each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// One life of a client: its machine and how often it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// Number of the client.
    pub client: u32,
    /// How often it was started.
    pub number: u32,
}

/// An inode's number.
pub type Inode = u64;
/// A value that one write put into a cell; 0: a hole.
pub type Value = u32;

/// What was asked.
#[allow(missing_docs, reason = "the fields say what they are")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// open(O_CREAT), with O_EXCL if exclusive: `Node`.
    Create { directory: Inode, name: String, exclusive: bool },
    /// mkdir: `Node`.
    MakeDirectory { directory: Inode, name: String },
    /// unlink.
    Unlink { directory: Inode, name: String },
    /// rmdir.
    RemoveDirectory { directory: Inode, name: String },
    /// rename over whatever is there.
    Rename { from: (Inode, String), to: (Inode, String) },
    /// link.
    Link { inode: Inode, directory: Inode, name: String },
    /// stat of a name: `Node`.
    Lookup { directory: Inode, name: String },
    /// The whole listing of a directory: `Entries`.
    List { directory: Inode },
    /// fstat of a file: `Attributes`.
    Stat { inode: Inode },
    /// chmod of a file.
    ChangeMode { inode: Inode, mode: u32 },
    /// pwrite: the value into so many cells.
    Write { inode: Inode, cell: u32, cells: u32, value: Value },
    /// write with O_APPEND.
    Append { inode: Inode, cells: u32, value: Value },
    /// ftruncate to so many cells.
    Truncate { inode: Inode, cells: u32 },
    /// pread of so many cells: `Cells`.
    Read { inode: Inode, cell: u32, cells: u32 },
    /// fstat of a file: `Size`.
    Size { inode: Inode },
    /// fsync.
    Sync { inode: Inode },
    /// Not a call: what a read saw of one cell. Each has its own moment within the read.
    Cell { inode: Inode, cell: u32 },
    /// Not a call: from now on what this life had not made durable may be gone.
    Lose,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It was done.
    Done,
    /// A rename was done; or Linux has found both names to be one file, each name at a moment of its own,
    /// and left them alone.
    DoneOrSame,
    /// An inode.
    Node(Inode),
    /// Of a directory, without `.` and `..`.
    Entries(BTreeSet<(String, Inode)>),
    /// Mode (permission bits) and links of a file.
    Attributes(u32, u32),
    /// What was read, up to the end of the file.
    Cells(Vec<Value>),
    /// In cells.
    Size(u32),
    /// An error that says that nothing was changed.
    Refused(String),
    /// It may have happened, may happen later, or never.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Whose it is.
    pub life: Life,
    /// What was asked.
    pub call: Call,
    /// What came back.
    pub reply: Reply,
    /// When it began: any number that grows with time, no two the same.
    pub begin: u64,
    /// u64::MAX: it has not ended.
    pub end: u64,
}

/// All operations, and faults of the clients that are no reply of the model.
#[derive(Default)]
pub struct History {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    order: u64,
    operations: Vec<Operation>,
    broken: Vec<String>,
    settled: u64,
}

impl History {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An operation begins; its place.
    pub fn begin(&self, life: Life, call: Call) -> usize {
        let mut state = self.state.lock();
        state.order += 1;
        let begin = state.order;
        state.operations.push(Operation { life, call, reply: Reply::Unknown, begin, end: u64::MAX });
        state.operations.len() - 1
    }

    /// It ends. With `Unknown` it goes on for ever.
    pub fn end(&self, place: usize, reply: Reply) {
        let mut state = self.state.lock();
        state.order += 1;
        state.settled += 1;
        let end = state.order;
        let operation = &mut state.operations[place];
        if reply != Reply::Unknown {
            operation.end = end;
        }
        operation.reply = reply;
    }

    /// A client saw what must never be.
    pub fn broken(&self, what: String) {
        self.state.lock().broken.push(what);
    }

    /// Operations that ended, known or not.
    pub fn settled(&self) -> u64 {
        self.state.lock().settled
    }

    /// All operations, and what [`Self::broken`] was told; the history is empty afterwards.
    pub fn take(&self) -> (Vec<Operation>, Vec<String>) {
        let mut state = self.state.lock();
        (std::mem::take(&mut state.operations), std::mem::take(&mut state.broken))
    }
}

impl Call {
    /// The file whose bytes it is about.
    pub fn file(&self) -> Option<Inode> {
        match self {
            Self::Write { inode, .. }
            | Self::Append { inode, .. }
            | Self::Truncate { inode, .. }
            | Self::Read { inode, .. }
            | Self::Size { inode }
            | Self::Cell { inode, .. }
            | Self::Sync { inode } => Some(*inode),
            _ => None,
        }
    }

    /// Whether it puts bytes in memory.
    pub(super) fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Append { .. })
    }

    /// Whether it changes nothing that a program sees.
    pub fn reads(&self) -> bool {
        matches!(
            self,
            Self::Read { .. }
                | Self::Cell { .. }
                | Self::Size { .. }
                | Self::Stat { .. }
                | Self::List { .. }
                | Self::Lookup { .. }
                | Self::Sync { .. }
        )
    }

    /// Its name in statistics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::MakeDirectory { .. } => "mkdir",
            Self::Unlink { .. } => "unlink",
            Self::RemoveDirectory { .. } => "rmdir",
            Self::Rename { .. } => "rename",
            Self::Link { .. } => "link",
            Self::Lookup { .. } => "lookup",
            Self::List { .. } => "readdir",
            Self::Stat { .. } | Self::Size { .. } => "stat",
            Self::ChangeMode { .. } => "chmod",
            Self::Write { .. } => "write",
            Self::Append { .. } => "append",
            Self::Truncate { .. } => "truncate",
            Self::Read { .. } | Self::Cell { .. } => "read",
            Self::Sync { .. } => "fsync",
            Self::Lose => "loss",
        }
    }
}

//! What the clients did and saw: one operation after another with the order of its begin and its end.
//! The order is that in which the simulation ran; what happens on two machines within one tick cannot
//! influence each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// One life of a client: its machine and how often it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Life {
    pub(crate) client: u32,
    pub(crate) number: u32,
}

/// An inode's number.
pub(crate) type Inode = u64;
/// A value that one write put into a cell; 0: a hole.
pub(crate) type Value = u32;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Create {
        directory: Inode,
        name: String,
        exclusive: bool,
    },
    MakeDirectory {
        directory: Inode,
        name: String,
    },
    Unlink {
        directory: Inode,
        name: String,
    },
    RemoveDirectory {
        directory: Inode,
        name: String,
    },
    Rename {
        from: (Inode, String),
        to: (Inode, String),
    },
    Link {
        inode: Inode,
        directory: Inode,
        name: String,
    },
    Lookup {
        directory: Inode,
        name: String,
    },
    List {
        directory: Inode,
    },
    Stat {
        inode: Inode,
    },
    ChangeMode {
        inode: Inode,
        mode: u32,
    },
    Write {
        inode: Inode,
        cell: u32,
        cells: u32,
        value: Value,
    },
    Append {
        inode: Inode,
        cells: u32,
        value: Value,
    },
    Truncate {
        inode: Inode,
        cells: u32,
    },
    Read {
        inode: Inode,
        cell: u32,
        cells: u32,
    },
    Size {
        inode: Inode,
    },
    Sync {
        inode: Inode,
    },
    /// Not a call: what a read saw of one cell. Each has its own moment within the read.
    Cell {
        inode: Inode,
        cell: u32,
    },
    /// Not a call: from now on what this life had not made durable may be gone.
    Lose,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Done,
    /// An inode, and whether it is new.
    Node(Inode, bool),
    Entries(BTreeSet<(String, Inode)>),
    /// Mode and links.
    Attributes(u32, u32),
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
pub(crate) struct Operation {
    pub(crate) life: Life,
    pub(crate) call: Call,
    pub(crate) reply: Reply,
    pub(crate) begin: u64,
    /// u64::MAX: it has not ended.
    pub(crate) end: u64,
}

/// All operations, and faults of the clients that are no reply of the model.
#[derive(Default)]
pub(crate) struct History {
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
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An operation begins; its place.
    pub(crate) fn begin(&self, life: Life, call: Call) -> usize {
        let mut state = self.state.lock();
        state.order += 1;
        let begin = state.order;
        state.operations.push(Operation { life, call, reply: Reply::Unknown, begin, end: u64::MAX });
        state.operations.len() - 1
    }

    /// It ends. With `Unknown` it goes on for ever.
    pub(crate) fn end(&self, place: usize, reply: Reply) {
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
    pub(crate) fn broken(&self, what: String) {
        self.state.lock().broken.push(what);
    }

    /// Operations that ended, known or not.
    pub(crate) fn settled(&self) -> u64 {
        self.state.lock().settled
    }

    pub(crate) fn take(&self) -> (Vec<Operation>, Vec<String>) {
        let mut state = self.state.lock();
        (std::mem::take(&mut state.operations), std::mem::take(&mut state.broken))
    }
}

impl Call {
    /// The file whose bytes it is about.
    pub(crate) fn file(&self) -> Option<Inode> {
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

    /// Whether it changes nothing that a program sees.
    pub(crate) fn reads(&self) -> bool {
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
    pub(crate) fn kind(&self) -> &'static str {
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

//! One program of a client: random operations, one after another, each recorded. Any program of any
//! client may write any file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_cluster_tests::checker::{Call, Inode, Life, Reply, cells};
use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::name::Name;
use cairn_common::protocol::metadata::AttributeChanges;
use cairn_mount::filesystem::files::OpenOptions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client_host::CALL_TIMEOUT;
use crate::programs::Mounted;
pub(crate) use crate::workload::Workload;
use crate::workload::{MAX_CELLS, Phase};

/// Files that a worker keeps open, at most.
const MAX_OPEN: usize = 6;

/// A program.
pub(crate) struct Worker {
    mounted: Mounted,
    life: Life,
    workload: Arc<Workload>,
    dice: StdRng,
    /// Files that it has open for writing.
    open: BTreeMap<Inode, u64>,
}

type Answer = Result<Reply, ClientError>;

impl Worker {
    pub(crate) fn new(mounted: Mounted, life: Life, workload: Arc<Workload>, seed: u64) -> Self {
        Self { mounted, life, workload, dice: StdRng::seed_from_u64(seed), open: BTreeMap::new() }
    }

    /// Works until everything is inspected, or for ever.
    pub(crate) async fn run(mut self) {
        while self.workload.phase() == Phase::Work {
            if let Some(call) = self.choose().await {
                self.record(call).await;
            }
            let pause = if self.dice.random_bool(0.1) { 200 } else { 8 };
            let pause = Duration::from_micros(self.dice.random_range(0..pause * 1000));
            tokio::time::sleep(pause).await;
        }
        self.inspect().await;
        self.workload.inspected();
        std::future::pending::<()>().await;
    }

    async fn inspect(&mut self) {
        for inode in self.open.keys().copied().collect::<Vec<_>>() {
            self.record(Call::Sync { inode }).await;
        }
        for directory in self.workload.directories() {
            let Reply::Entries(entries) = self.record(Call::List { directory }).await else { continue };
            for (_, inode) in entries.into_iter().filter(|(name, _)| name.starts_with('f')) {
                self.record(Call::Stat { inode }).await;
                self.record(Call::Size { inode }).await;
                self.record(Call::Read { inode, cell: 0, cells: MAX_CELLS * 2 }).await;
            }
        }
    }

    fn file_name(&mut self) -> String {
        format!("f{}", self.dice.random_range(0..4))
    }

    fn directory_name(&mut self) -> String {
        format!("d{}", self.dice.random_range(0..3))
    }

    /// A file that is open, or that a name leads to now: programs reach no file in another way.
    async fn file(&mut self) -> Option<Inode> {
        let open = self.open.keys().nth(self.dice.random_range(0..MAX_OPEN)).copied();
        if open.is_some() && self.dice.random_bool(0.5) {
            return open;
        }
        let (directory, name) = (self.workload.directory(&mut self.dice), self.file_name());
        match self.record(Call::Lookup { directory, name }).await {
            Reply::Node(inode) => Some(inode),
            _ => open,
        }
    }

    async fn choose(&mut self) -> Option<Call> {
        let directory = self.workload.directory(&mut self.dice);
        let (name, directory_name) = (self.file_name(), self.directory_name());
        let weight = self.dice.random_range(0..100);
        let cells = self.dice.random_range(1..=4);
        let cell = self.dice.random_range(0..MAX_CELLS - cells);
        Some(match weight {
            0..4 => Call::MakeDirectory { directory, name: directory_name },
            4..16 => Call::Create { directory, name, exclusive: self.dice.random_bool(0.5) },
            16..38 => {
                let inode = self.file().await?;
                self.choose_write(inode, cell, cells)
            }
            38..52 => match (self.file().await?, self.dice.random_bool(0.5)) {
                (inode, true) => Call::Read { inode, cell: 0, cells: MAX_CELLS * 2 },
                (inode, false) => Call::Read { inode, cell, cells },
            },
            52..57 => Call::Size { inode: self.file().await? },
            57..62 => Call::Stat { inode: self.file().await? },
            62..65 => Call::ChangeMode { inode: self.file().await?, mode: 0o600 + self.dice.random_range(0..8) },
            65..73 => Call::Lookup { directory, name },
            73..79 => Call::List { directory },
            79..83 => Call::Unlink { directory, name },
            83..86 => Call::RemoveDirectory { directory, name: directory_name },
            86..89 => {
                let to = (self.workload.directory(&mut self.dice), self.directory_name());
                Call::Rename { from: (directory, directory_name), to }
            }
            89..95 => {
                let to = (self.workload.directory(&mut self.dice), self.file_name());
                Call::Rename { from: (directory, name), to }
            }
            _ => Call::Link { inode: self.file().await?, directory, name },
        })
    }

    fn choose_write(&mut self, inode: Inode, cell: u32, cells: u32) -> Call {
        let value = self.workload.value();
        match self.dice.random_range(0..10) {
            0..2 => Call::Append { inode, cells: cells.min(2), value },
            2 => Call::Truncate { inode, cells: cell.min(8) },
            3..5 if self.open.contains_key(&inode) => Call::Sync { inode },
            _ => Call::Write { inode, cell, cells, value },
        }
    }

    /// Does it and records it. The adapter of a real mount bounds every call.
    async fn record(&mut self, call: Call) -> Reply {
        let history = self.workload.history.clone();
        let request = RequestId::random();
        let place = history.begin(self.life, call.clone());
        self.workload.asked(request, place);
        let done = tokio::time::timeout(CALL_TIMEOUT, self.perform(request, &call)).await;
        let reply = match done {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => self.workload.failure(&call, &error),
            Err(_) => Reply::Unknown,
        };
        self.learn(&call, &reply);
        history.end(place, reply.clone());
        if self.workload.is_fenced(self.life) {
            std::future::pending::<()>().await;
        }
        reply
    }

    fn learn(&mut self, call: &Call, reply: &Reply) {
        match (call, reply) {
            (Call::MakeDirectory { .. }, Reply::Node(inode)) => self.workload.remember_directory(*inode),
            (Call::List { directory }, Reply::Refused(_)) => self.workload.forget_directory(*directory),
            _ => {}
        }
    }

    async fn perform(&mut self, request: RequestId, call: &Call) -> Answer {
        let mounted = self.mounted.clone();
        let cell_bytes = self.workload.cell_bytes as u64;
        match call {
            Call::Create { directory, name, exclusive } => {
                let (inode, handle) = mounted.create(request, InodeId(*directory), name_of(name), *exclusive).await?;
                if self.dice.random_bool(0.5) {
                    self.keep(inode.0, handle);
                } else {
                    mounted.release(handle);
                }
                Ok(Reply::Node(inode.0))
            }
            Call::MakeDirectory { directory, name } => {
                let inode = mounted.make_directory(request, InodeId(*directory), name_of(name)).await?;
                Ok(Reply::Node(inode.0))
            }
            Call::Unlink { directory, name } => {
                mounted.unlink(request, InodeId(*directory), name_of(name)).await.map(|()| Reply::Done)
            }
            Call::RemoveDirectory { directory, name } => {
                mounted.remove_directory(request, InodeId(*directory), name_of(name)).await.map(|()| Reply::Done)
            }
            Call::Rename { from, to } => {
                let (old, new) = ((InodeId(from.0), name_of(&from.1)), (InodeId(to.0), name_of(&to.1)));
                mounted.rename(request, old, new).await.map(|()| Reply::Done)
            }
            Call::Link { inode, directory, name } => {
                let (inode, directory) = (InodeId(*inode), InodeId(*directory));
                mounted.link(request, inode, directory, name_of(name)).await.map(|()| Reply::Done)
            }
            Call::Lookup { directory, name } => {
                let inode = mounted.lookup(request, InodeId(*directory), name_of(name)).await?;
                Ok(Reply::Node(inode.0))
            }
            Call::List { directory } => {
                let entries = mounted.list(request, InodeId(*directory)).await?;
                Ok(Reply::Entries(entries.into_iter().map(|(name, inode)| (name, inode.0)).collect()))
            }
            Call::Stat { inode } => {
                let attributes = mounted.stat(request, InodeId(*inode)).await?;
                Ok(Reply::Attributes(attributes.mode, attributes.links))
            }
            Call::Size { inode } => {
                let size = mounted.stat(request, InodeId(*inode)).await?.size;
                Ok(Reply::Size((size / cell_bytes) as u32))
            }
            Call::ChangeMode { inode, mode } => {
                let changes = AttributeChanges { mode: Some(*mode), ..AttributeChanges::default() };
                mounted.set_attributes(request, InodeId(*inode), changes).await.map(|()| Reply::Done)
            }
            Call::Truncate { inode, cells } => {
                let size = Some(u64::from(*cells) * cell_bytes);
                let changes = AttributeChanges { size, ..AttributeChanges::default() };
                mounted.set_attributes(request, InodeId(*inode), changes).await.map(|()| Reply::Done)
            }
            Call::Write { inode, cell, cells, value } => {
                let bytes = cells::fill(*value, *cells, self.workload.cell_bytes);
                self.write(request, *inode, u64::from(*cell) * cell_bytes, bytes, false).await
            }
            Call::Append { inode, cells, value } => {
                let bytes = cells::fill(*value, *cells, self.workload.cell_bytes);
                self.write(request, *inode, 0, bytes, true).await
            }
            Call::Read { inode, cell, cells } => self.read(request, InodeId(*inode), *cell, *cells).await,
            Call::Sync { inode } => {
                let Some(handle) = self.open.get(inode).copied() else {
                    return Ok(Reply::Refused("not open".into()));
                };
                mounted.flush(request, handle, true).await.map(|()| Reply::Done)
            }
            Call::Lose | Call::Cell { .. } => Ok(Reply::Unknown),
        }
    }

    /// Keeps a file open; closes another one if there are too many.
    fn keep(&mut self, inode: Inode, handle: u64) {
        let before = self.open.insert(inode, handle);
        let surplus = if self.open.len() > MAX_OPEN { self.open.pop_first().map(|(_, handle)| handle) } else { None };
        before.into_iter().chain(surplus).for_each(|handle| self.mounted.release(handle));
    }

    /// A write to a file that is open, or between an open and a close, or the file stays open behind it.
    async fn write(&mut self, request: RequestId, inode: Inode, offset: u64, bytes: Vec<u8>, append: bool) -> Answer {
        let mounted = self.mounted.clone();
        if let Some(open) = self.open.get(&inode).copied().filter(|_| !append) {
            return mounted.write(request, open, offset, bytes).await.map(|()| Reply::Done);
        }
        let options = OpenOptions { write: true, append, ..OpenOptions::default() };
        let number = mounted.open(request, InodeId(inode), options).await?;
        let written = mounted.write(request, number, offset, bytes).await;
        if !append && self.dice.random_bool(0.4) {
            self.keep(inode, number);
            return written.map(|()| Reply::Done);
        }
        let closed = match written {
            Ok(()) => mounted.flush(request, number, false).await,
            Err(error) => Err(error),
        };
        mounted.release(number);
        closed.map(|()| Reply::Done)
    }

    async fn read(&mut self, request: RequestId, inode: InodeId, cell: u32, cells: u32) -> Answer {
        let length = self.workload.cell_bytes;
        let bytes = self.mounted.read(request, inode, u64::from(cell) * length as u64, cells * length as u32).await?;
        match cells::values(&bytes, length) {
            Ok(values) => Ok(Reply::Cells(values)),
            Err(reason) => {
                self.workload.history.broken(format!("a read of inode {inode} from cell {cell} on: {reason}"));
                Ok(Reply::Unknown)
            }
        }
    }
}

fn name_of(name: &str) -> Name {
    Name::new(name.as_bytes().to_vec()).expect("names of the simulation are valid")
}

//! One program of a client: random operations, one after another, each recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::name::Name;
use cairn_common::protocol::metadata::{AttributeChanges, NewNode, RenameMode};
use cairn_mount::filesystem::files::OpenOptions;
use cairn_mount::filesystem::{Caller, Filesystem};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cells;
use crate::history::{Call, Inode, Life, Reply};
pub(crate) use crate::workload::Workload;
use crate::workload::{MAX_CELLS, Owner, Phase};

/// Files that a worker keeps open, at most.
const MAX_OPEN: usize = 6;

/// A program.
pub(crate) struct Worker {
    filesystem: Arc<Filesystem>,
    life: Life,
    workload: Arc<Workload>,
    dice: StdRng,
    /// Files of this client that are open for writing.
    open: BTreeMap<Inode, u64>,
}

type Answer = Result<Reply, ClientError>;

impl Worker {
    pub(crate) fn new(filesystem: Arc<Filesystem>, life: Life, workload: Arc<Workload>, seed: u64) -> Self {
        Self { filesystem, life, workload, dice: StdRng::seed_from_u64(seed), open: BTreeMap::new() }
    }

    /// Works until everything is inspected, or for ever.
    pub(crate) async fn run(mut self) {
        while self.workload.phase() == Phase::Work {
            let call = self.choose();
            self.carry_out(call).await;
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
            self.carry_out(Call::Sync { inode }).await;
        }
        let (directories, files) = self.workload.known();
        for directory in directories {
            self.carry_out(Call::List { directory }).await;
        }
        for (inode, _) in files {
            self.carry_out(Call::Stat { inode }).await;
            self.carry_out(Call::Size { inode }).await;
            self.carry_out(Call::Read { inode, cell: 0, cells: MAX_CELLS * 2 }).await;
        }
    }

    fn name(&mut self, owner: Owner) -> String {
        match owner {
            Owner::Everybody => format!("s{}", self.dice.random_range(0..4)),
            Owner::Client(client) => format!("o{client}.{}", self.dice.random_range(0..2)),
        }
    }

    fn owner(&mut self) -> Owner {
        if self.dice.random_bool(0.6) { Owner::Everybody } else { Owner::Client(self.life.client) }
    }

    fn choose(&mut self) -> Call {
        let directory = self.workload.directory(&mut self.dice);
        let owner = self.owner();
        let name = self.name(owner);
        let directory_name = format!("d{}", self.dice.random_range(0..3));
        let file = self.workload.file(&mut self.dice);
        let weight = self.dice.random_range(0..100);
        let (Some((inode, owner)), true) = (file, weight >= 16) else {
            return match weight {
                0..4 => Call::MakeDirectory { directory, name: directory_name },
                _ => Call::Create { directory, name, exclusive: self.dice.random_bool(0.5) },
            };
        };
        let cells = self.dice.random_range(1..=4);
        let cell = self.dice.random_range(0..MAX_CELLS - cells);
        match weight {
            16..38 => self.choose_write(inode, owner, cell, cells),
            38..56 => match self.dice.random_bool(0.5) {
                true => Call::Read { inode, cell: 0, cells: MAX_CELLS * 2 },
                false => Call::Read { inode, cell, cells },
            },
            56..60 => Call::Size { inode },
            60..65 => Call::Stat { inode },
            65..68 => Call::ChangeMode { inode, mode: 0o600 + self.dice.random_range(0..8) },
            68..73 => Call::Lookup { directory, name },
            73..79 => Call::List { directory },
            79..83 => Call::Unlink { directory, name },
            83..86 => Call::RemoveDirectory { directory, name: directory_name },
            86..89 => {
                let to = (self.workload.directory(&mut self.dice), format!("d{}", self.dice.random_range(0..3)));
                Call::Rename { from: (directory, directory_name), to }
            }
            89..95 => {
                let owner = if name.starts_with('s') { Owner::Everybody } else { Owner::Client(self.life.client) };
                let to = (self.workload.directory(&mut self.dice), self.name(owner));
                Call::Rename { from: (directory, name), to }
            }
            _ => Call::Link { inode, directory, name: self.name(owner) },
        }
    }

    fn choose_write(&mut self, inode: Inode, owner: Owner, cell: u32, cells: u32) -> Call {
        let value = self.workload.value();
        let mine = match owner {
            Owner::Everybody => true,
            Owner::Client(client) => client == self.life.client,
        };
        if !mine {
            return Call::Read { inode, cell: 0, cells: MAX_CELLS * 2 };
        }
        match self.dice.random_range(0..10) {
            0..2 => Call::Append { inode, cells: cells.min(2), value },
            2 => Call::Truncate { inode, cells: cell.min(8) },
            3..5 if owner != Owner::Everybody => Call::Sync { inode },
            _ => Call::Write { inode, cell, cells, value },
        }
    }

    /// Does it and records it.
    async fn carry_out(&mut self, call: Call) {
        let writes = matches!(call, Call::Write { .. } | Call::Append { .. } | Call::Truncate { .. });
        let file = call.file().filter(|inode| !self.open.contains_key(inode));
        if file.is_some_and(|inode| !self.workload.may_use(self.life.client, inode, writes)) {
            return;
        }
        self.record(call).await;
        if let Some(inode) = file.filter(|_| writes) {
            self.workload.written(self.life.client, inode);
        }
    }

    async fn record(&mut self, call: Call) {
        let history = self.workload.history.clone();
        let place = history.begin(self.life, call.clone());
        let reply = match self.perform(&call).await {
            Ok(reply) => reply,
            Err(error) => self.workload.failure(&call, &error),
        };
        self.learn(&call, &reply);
        history.end(place, reply);
        if self.workload.is_fenced(self.life) {
            std::future::pending::<()>().await;
        }
    }

    fn learn(&mut self, call: &Call, reply: &Reply) {
        match (call, reply) {
            (Call::MakeDirectory { .. }, Reply::Node(inode, _)) => self.workload.remember_directory(*inode),
            (Call::Create { name, .. }, Reply::Node(inode, _)) => {
                self.workload.remember_file(*inode, owner_of(name));
            }
            (Call::Lookup { name, .. }, Reply::Node(inode, _)) => {
                self.workload.remember_file(*inode, owner_of(name));
            }
            (Call::List { directory }, Reply::Refused(_)) => self.workload.forget_directory(*directory),
            _ => {}
        }
    }

    fn caller(&self) -> Caller {
        Caller { request: RequestId::random(), uid: 0, gid: 0 }
    }

    async fn perform(&mut self, call: &Call) -> Answer {
        let (fs, caller) = (self.filesystem.clone(), self.caller());
        let request = caller.request;
        match call {
            Call::Create { directory, name, exclusive } => {
                let options = OpenOptions { write: true, exclusive: *exclusive, ..OpenOptions::default() };
                let (attributes, handle) =
                    fs.create(caller, InodeId(*directory), name_of(name), 0o644, options).await?;
                let inode = attributes.inode.0;
                if owner_of(name) == Owner::Client(self.life.client) {
                    self.keep(inode, handle);
                } else {
                    fs.release(handle);
                }
                Ok(Reply::Node(inode, *exclusive))
            }
            Call::MakeDirectory { directory, name } => {
                let node = NewNode::Directory;
                let attributes = fs.make_node(caller, InodeId(*directory), name_of(name), node, 0o755).await?;
                Ok(Reply::Node(attributes.inode.0, true))
            }
            Call::Unlink { directory, name } => {
                fs.unlink(caller, InodeId(*directory), name_of(name)).await.map(|()| Reply::Done)
            }
            Call::RemoveDirectory { directory, name } => {
                fs.remove_directory(caller, InodeId(*directory), name_of(name)).await.map(|()| Reply::Done)
            }
            Call::Rename { from, to } => {
                let (old, new) = ((InodeId(from.0), name_of(&from.1)), (InodeId(to.0), name_of(&to.1)));
                fs.rename(caller, old, new, RenameMode::Replace).await.map(|()| Reply::Done)
            }
            Call::Link { inode, directory, name } => {
                fs.link(caller, InodeId(*inode), InodeId(*directory), name_of(name)).await.map(|_| Reply::Done)
            }
            Call::Lookup { directory, name } => {
                let found = fs.lookup(caller, InodeId(*directory), name_of(name)).await?;
                Ok(Reply::Node(found.inode.0, false))
            }
            Call::List { directory } => self.list(InodeId(*directory)).await,
            Call::Stat { inode } => {
                let attributes = fs.attributes(request, InodeId(*inode)).await?;
                Ok(Reply::Attributes(attributes.mode, attributes.links))
            }
            Call::Size { inode } => {
                let size = fs.attributes(request, InodeId(*inode)).await?.size;
                Ok(Reply::Size((size / self.workload.cell_bytes as u64) as u32))
            }
            Call::ChangeMode { inode, mode } => {
                let changes = AttributeChanges { mode: Some(*mode), ..AttributeChanges::default() };
                fs.set_attributes(caller, InodeId(*inode), changes).await.map(|_| Reply::Done)
            }
            Call::Truncate { inode, cells } => {
                let size = Some(u64::from(*cells) * self.workload.cell_bytes as u64);
                let changes = AttributeChanges { size, ..AttributeChanges::default() };
                fs.set_attributes(caller, InodeId(*inode), changes).await.map(|_| Reply::Done)
            }
            Call::Write { inode, cell, cells, value } => {
                let bytes = cells::fill(*value, *cells, self.workload.cell_bytes);
                self.write(*inode, u64::from(*cell) * self.workload.cell_bytes as u64, bytes, false).await
            }
            Call::Append { inode, cells, value } => {
                let bytes = cells::fill(*value, *cells, self.workload.cell_bytes);
                self.write(*inode, 0, bytes, true).await
            }
            Call::Read { inode, cell, cells } => self.read(InodeId(*inode), *cell, *cells).await,
            Call::Sync { inode } => {
                let Some(handle) = self.open.get(inode).copied() else {
                    return Ok(Reply::Refused("not open".into()));
                };
                let handle = fs.handle(handle)?;
                fs.sync(request, &handle).await.map(|()| Reply::Done)
            }
            Call::Lose | Call::Cell { .. } => Ok(Reply::Unknown),
        }
    }

    /// Keeps a file open; closes another one if there are too many.
    fn keep(&mut self, inode: Inode, handle: u64) {
        let before = self.open.insert(inode, handle);
        let surplus = if self.open.len() > MAX_OPEN { self.open.pop_first().map(|(_, handle)| handle) } else { None };
        before.into_iter().chain(surplus).for_each(|handle| self.filesystem.release(handle));
    }

    /// A write: to a file of this client into memory, to any other with a close behind it.
    async fn write(&mut self, inode: Inode, offset: u64, bytes: Vec<u8>, append: bool) -> Answer {
        let (fs, request) = (self.filesystem.clone(), self.caller().request);
        let kept = self.open.get(&inode).copied().filter(|_| !append);
        let options = OpenOptions { write: true, append, ..OpenOptions::default() };
        let number = match kept {
            Some(number) => number,
            None => fs.open(self.caller(), InodeId(inode), options).await?,
        };
        let handle = fs.handle(number)?;
        let written = fs.write(request, &handle, offset, Bytes::from(bytes)).await;
        let result = match (written, kept) {
            (Ok(_), Some(_)) => Ok(Reply::Done),
            // close(2) flushes.
            (Ok(_), None) => fs.flush(request, &handle).await.map(|()| Reply::Done),
            (Err(error), _) => Err(error),
        };
        if kept.is_none() {
            fs.release(number);
        }
        result
    }

    async fn read(&mut self, inode: InodeId, cell: u32, cells: u32) -> Answer {
        let (fs, request, length) = (self.filesystem.clone(), self.caller().request, self.workload.cell_bytes);
        let options = OpenOptions { direct: true, ..OpenOptions::default() };
        let number = fs.open(self.caller(), inode, options).await?;
        let handle = fs.handle(number)?;
        let bytes = fs.read(request, &handle, u64::from(cell) * length as u64, cells * length as u32).await;
        fs.release(number);
        match cells::values(&bytes?, length) {
            Ok(values) => Ok(Reply::Cells(values)),
            Err(reason) => {
                self.workload.history.broken(format!("a read of inode {inode} from cell {cell} on: {reason}"));
                Ok(Reply::Unknown)
            }
        }
    }

    async fn list(&mut self, directory: InodeId) -> Answer {
        let fs = self.filesystem.clone();
        let number = fs.open_directory(directory);
        let mut entries = Vec::new();
        let listed = fs
            .list(self.caller(), number, 0, |entry| {
                entries.push((String::from_utf8_lossy(&entry.name).into_owned(), entry.inode.0));
                true
            })
            .await;
        fs.release_directory(number);
        listed?;
        Ok(Reply::Entries(entries.into_iter().filter(|(name, _)| name != "." && name != "..").collect()))
    }
}

fn name_of(name: &str) -> Name {
    Name::new(name.as_bytes().to_vec()).expect("names of the simulation are valid")
}

fn owner_of(name: &str) -> Owner {
    let client = name.strip_prefix('o').and_then(|rest| rest.split('.').next()).and_then(|number| number.parse().ok());
    client.map_or(Owner::Everybody, Owner::Client)
}

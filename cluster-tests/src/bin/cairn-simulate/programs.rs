//! System calls of a simulated program: through what the mount's kernel believes, if it has one, to the
//! real core of the mount.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_common::client::ClientError;
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::name::Name;
use cairn_common::protocol::FsError;
use cairn_common::protocol::metadata::{AttributeChanges, Attributes, NewNode, RenameMode};
use cairn_mount::filesystem::files::OpenOptions;
use cairn_mount::filesystem::{Caller, Filesystem};

use crate::inode_locks::InodeLocks;
use crate::sim_kernel::{Asked, SimKernel};

/// A mount as its programs see it.
#[derive(Clone)]
pub(crate) struct Mounted {
    pub(crate) filesystem: Arc<Filesystem>,
    pub(crate) kernel: Option<Arc<SimKernel>>,
    pub(crate) locks: Arc<InodeLocks>,
}

type Answer<T> = Result<T, ClientError>;

pub(crate) fn caller(request: RequestId) -> Caller {
    Caller { request, uid: 0, gid: 0, umask: 0 }
}

impl Mounted {
    fn ask(&self) -> Option<(&SimKernel, Asked)> {
        self.kernel.as_deref().map(|kernel| (kernel, kernel.ask()))
    }

    fn believed(&self, parent: InodeId, name: &Name) -> Option<Option<InodeId>> {
        self.kernel.as_ref()?.name(parent, name)
    }

    /// The kernel refuses without asking what it believes to be in the way.
    fn refuse_present(&self, parent: InodeId, name: &Name) -> Answer<()> {
        match self.believed(parent, name) {
            Some(Some(_)) => Err(FsError::Exists.into()),
            _ => Ok(()),
        }
    }

    /// The kernel refuses without asking what it believes to be absent.
    fn refuse_absent(&self, parent: InodeId, name: &Name) -> Answer<()> {
        match self.believed(parent, name) {
            Some(None) => Err(FsError::NotFound.into()),
            _ => Ok(()),
        }
    }

    fn changed(&self, parent: InodeId, name: &Name) {
        if let Some(kernel) = &self.kernel {
            kernel.changed(parent, name);
        }
    }

    fn changed_file(&self, inode: InodeId) {
        if let Some(kernel) = &self.kernel {
            kernel.changed_file(inode);
        }
    }

    /// As the adapter does: for attributes that are still the ones that are known.
    fn attribute_ttl(&self, shown: &Attributes) -> Duration {
        let ttl = self.filesystem.attribute_ttl(shown.inode);
        let current = !ttl.is_zero() && self.filesystem.try_attributes(shown.inode).as_ref() == Some(shown);
        if current { ttl } else { Duration::ZERO }
    }

    fn tell_name(&self, asked: Option<(&SimKernel, Asked)>, parent: InodeId, name: Name, value: Option<InodeId>) {
        if let Some((kernel, asked)) = asked {
            let ttl = self.filesystem.name_ttl(parent, &name, value);
            kernel.tell_name(asked, parent, name, value, ttl);
        }
    }

    fn tell_attributes(&self, asked: Option<(&SimKernel, Asked)>, shown: &Attributes) {
        if let Some((kernel, asked)) = asked {
            kernel.tell_attributes(asked, *shown, self.attribute_ttl(shown));
        }
    }

    pub(crate) async fn lookup(&self, request: RequestId, parent: InodeId, name: Name) -> Answer<InodeId> {
        // A kernel would show the name of before while a change of its own mount has not returned, though others
        // may see it done (`docs/semantics.md`).
        if !self.locks.is_changing(parent)
            && let Some(found) = self.believed(parent, &name)
        {
            return found.ok_or(ClientError::Fs(FsError::NotFound));
        }
        let _lock = self.locks.shared(parent).await;
        let asked = self.ask();
        match self.filesystem.lookup(caller(request), parent, name.clone()).await {
            Ok(shown) => {
                self.tell_attributes(asked, &shown);
                self.tell_name(asked, parent, name, Some(shown.inode));
                Ok(shown.inode)
            }
            Err(error) => {
                if matches!(error, ClientError::Fs(FsError::NotFound)) {
                    self.tell_name(asked, parent, name, None);
                }
                Err(error)
            }
        }
    }

    pub(crate) async fn stat(&self, request: RequestId, inode: InodeId) -> Answer<Attributes> {
        if let Some(believed) = self.kernel.as_ref().and_then(|kernel| kernel.attributes_of(inode)) {
            return Ok(believed);
        }
        let asked = self.ask();
        let shown = self.filesystem.attributes(request, inode).await?;
        self.tell_attributes(asked, &shown);
        Ok(shown)
    }

    pub(crate) async fn create(
        &self,
        request: RequestId,
        parent: InodeId,
        name: Name,
        exclusive: bool,
    ) -> Answer<(InodeId, u64)> {
        let _lock = self.locks.exclusive([parent]).await;
        if exclusive {
            self.refuse_present(parent, &name)?;
        }
        let options = OpenOptions { write: true, exclusive, ..OpenOptions::default() };
        let made = self.filesystem.create(caller(request), parent, name.clone(), 0o644, options).await;
        self.changed(parent, &name);
        made.map(|(attributes, handle)| (attributes.inode, handle))
    }

    pub(crate) async fn make_directory(&self, request: RequestId, parent: InodeId, name: Name) -> Answer<InodeId> {
        let _lock = self.locks.exclusive([parent]).await;
        self.refuse_present(parent, &name)?;
        let asked = self.ask();
        let made = self.filesystem.make_node(caller(request), parent, name.clone(), NewNode::Directory, 0o755).await;
        self.changed(parent, &name);
        let inode = made?.inode;
        self.tell_name(asked, parent, name, Some(inode));
        Ok(inode)
    }

    pub(crate) async fn unlink(&self, request: RequestId, parent: InodeId, name: Name) -> Answer<()> {
        let _lock = self.locks.exclusive([parent]).await;
        self.refuse_absent(parent, &name)?;
        let done = self.filesystem.unlink(caller(request), parent, name.clone()).await;
        self.changed(parent, &name);
        done
    }

    pub(crate) async fn remove_directory(&self, request: RequestId, parent: InodeId, name: Name) -> Answer<()> {
        let _lock = self.locks.exclusive([parent]).await;
        self.refuse_absent(parent, &name)?;
        let done = self.filesystem.remove_directory(caller(request), parent, name.clone()).await;
        self.changed(parent, &name);
        done
    }

    pub(crate) async fn rename(&self, request: RequestId, from: (InodeId, Name), to: (InodeId, Name)) -> Answer<()> {
        let _lock = self.locks.exclusive([from.0, to.0]).await;
        self.refuse_absent(from.0, &from.1)?;
        let done = self.filesystem.rename(caller(request), from.clone(), to.clone(), RenameMode::Replace).await;
        if let Some(kernel) = self.kernel.as_ref().filter(|_| done.is_ok()) {
            kernel.renamed(from, to);
        }
        done
    }

    pub(crate) async fn link(&self, request: RequestId, inode: InodeId, parent: InodeId, name: Name) -> Answer<()> {
        let _lock = self.locks.exclusive([parent, inode]).await;
        self.refuse_present(parent, &name)?;
        let asked = self.ask();
        let done = self.filesystem.link(caller(request), inode, parent, name.clone()).await;
        self.changed(parent, &name);
        self.changed_file(inode);
        done?;
        self.tell_name(asked, parent, name, Some(inode));
        Ok(())
    }

    pub(crate) async fn set_attributes(
        &self,
        request: RequestId,
        inode: InodeId,
        changes: AttributeChanges,
    ) -> Answer<()> {
        let _lock = self.locks.exclusive([inode]).await;
        let done = self.filesystem.set_attributes(caller(request), inode, changes).await;
        self.changed_file(inode);
        done.map(|_| ())
    }

    /// Names and inodes, without `.` and `..`.
    pub(crate) async fn list(&self, request: RequestId, directory: InodeId) -> Answer<Vec<(String, InodeId)>> {
        let _lock = self.locks.shared(directory).await;
        let fs = &self.filesystem;
        let handle = fs.open_directory(directory);
        let mut entries = Vec::new();
        let take = |entry: &cairn_mount::filesystem::directories::ListedEntry| {
            entries.push((String::from_utf8_lossy(entry.name).into_owned(), entry.inode));
            true
        };
        let listed = fs.list(caller(request), handle, 0, false, take).await;
        fs.release_directory(handle);
        listed?;
        Ok(entries.into_iter().filter(|(name, _)| name != "." && name != "..").collect())
    }

    pub(crate) async fn open(&self, request: RequestId, inode: InodeId, options: OpenOptions) -> Answer<u64> {
        self.filesystem.open(caller(request), inode, options).await
    }

    pub(crate) async fn write(&self, request: RequestId, number: u64, offset: u64, bytes: Vec<u8>) -> Answer<()> {
        let handle = self.filesystem.handle(number)?;
        let _lock = self.locks.exclusive([handle.file().inode]).await;
        let written = self.filesystem.write(request, &handle, offset, Bytes::from(bytes)).await;
        self.changed_file(handle.file().inode);
        written.map(|_| ())
    }

    /// close(2), or with `sync` fsync(2).
    pub(crate) async fn flush(&self, request: RequestId, number: u64, sync: bool) -> Answer<()> {
        let handle = self.filesystem.handle(number)?;
        if sync { self.filesystem.sync(request, &handle).await } else { self.filesystem.flush(request, &handle).await }
    }

    pub(crate) async fn read(&self, request: RequestId, inode: InodeId, offset: u64, length: u32) -> Answer<Vec<u8>> {
        let fs = &self.filesystem;
        let number = self.open(request, inode, OpenOptions::default()).await?;
        let bytes = match fs.handle(number) {
            Ok(handle) => fs.read(request, &handle, offset, length).await,
            Err(error) => Err(error),
        };
        fs.release(number);
        bytes
    }

    pub(crate) fn release(&self, handle: u64) {
        self.filesystem.release(handle);
    }
}

//! What the core needs of the kernel when a lease goes: that it forgets. The adapter implements it; a
//! mount without a kernel has [`NoKernel`].

use async_trait::async_trait;
use cairn_common::ids::InodeId;

/// The caches of the kernel. A call returns when the kernel believes nothing any more of what it was
/// told before the call: neither of answers that it has read, nor of answers on their way. It may wait
/// for the kernel's locks, so the core calls it from tasks that no request waits for; while it waits
/// for `pages`, the core goes on taking in writes and answering reads of that file.
#[async_trait]
pub trait KernelCaches: Send + Sync + 'static {
    /// Attributes and access control lists of an inode.
    async fn attributes(&self, inode: InodeId);
    /// Access control lists of an inode. Nothing waits: an answer with a list never brings an inode that the
    /// kernel does not know, and none that is on its way is kept. Attributes may be forgotten, too.
    fn acls(&self, inode: InodeId);
    /// Names in a directory, present and absent. To forget more is allowed.
    async fn names(&self, directory: InodeId);
    /// Attributes and pages of a file. Pages that a program has changed through a mapping come as
    /// writes before it returns.
    async fn pages(&self, inode: InodeId);
    /// No lease covers the pages of a file any more, though nobody has asked for it: they fall before the
    /// kernel gives any of them to a program again.
    fn uncovered(&self, inode: InodeId);
    /// A program's rename to another directory is about to be answered: the kernel takes the name along
    /// by itself, with what it believes of it.
    fn moves_name(&self);
}

/// No kernel: nothing to forget.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKernel;

#[async_trait]
impl KernelCaches for NoKernel {
    async fn attributes(&self, _inode: InodeId) {}
    fn acls(&self, _inode: InodeId) {}
    async fn names(&self, _directory: InodeId) {}
    async fn pages(&self, _inode: InodeId) {}
    fn uncovered(&self, _inode: InodeId) {}
    fn moves_name(&self) {}
}

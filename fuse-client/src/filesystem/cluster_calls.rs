//! Questions to the cluster and changes of it, as the rest of the core makes them: with leases asked
//! for, and with what they bring remembered.

use cairn_common::client::{Changed, ClientError};
use cairn_common::ids::{InodeId, RequestId};
use cairn_common::protocol::metadata::{ChangeEffects, Mutation, MutationResult, Query, QueryResult};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::Filesystem;
use crate::backend::unexpected;
use crate::kernel_caches::KernelCaches;
use crate::lease::{KnownName, NameEffect, OwnChange, Touch};
use crate::lease_book::LeaseBook;
use crate::open_files::OpenFiles;

impl Filesystem {
    /// A linearizable read. What it tells is remembered as far as leases come with it.
    pub(crate) async fn ask(&self, request: RequestId, query: Query) -> Result<QueryResult, ClientError> {
        let lease = !matches!(query, Query::Statfs | Query::LockInTheWay { .. });
        let asking = self.leases.ask();
        let answer = self.backend.query(request, query.clone(), lease).await?;
        asking.answered(&query, &answer);
        Ok(answer.result?)
    }

    /// A change; after `TimedOut` it may still happen, once.
    pub(crate) async fn change(&self, request: RequestId, mutation: Mutation) -> Result<MutationResult, ClientError> {
        let waited = self.settings.call_timeout;
        match tokio::time::timeout(waited, self.submit(request, mutation)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { what: "change", waited, tried: "the metadata leader".into() }),
        }
    }

    /// A change whose answer is definite; it goes on if the future is dropped. What it touches is busy
    /// until then, whoever waits for it.
    pub(crate) fn submit(
        &self,
        request: RequestId,
        mutation: Mutation,
    ) -> BoxFuture<'static, Result<MutationResult, ClientError>> {
        let (answer_to, answer) = oneshot::channel();
        let (leases, backend, files) = (self.leases.clone(), self.backend.clone(), self.files.clone());
        let kernel = self.kernel();
        let (change, covered, before) = {
            let mut cache = leases.lock();
            let time = leases.time();
            let before = match &mutation {
                Mutation::Rename { parent, name, new_parent, new_name, .. } => {
                    (cache.name(*parent, name, &time), cache.name(*new_parent, new_name, &time))
                }
                _ => (None, None),
            };
            let touch = Touch::of(&mutation, &cache);
            let covered = touch.inodes.clone();
            (cache.begin(touch), covered, before)
        };
        let shows_others = self.shows_others(&mutation);
        self.runtime.spawn(async move {
            if shows_others {
                // From the moment when the leader makes it others see it, however late the answer comes; and
                // what is touched is told with no lifetime until then.
                forget_attributes(&*kernel, &leases, &covered).await;
            }
            let outcome = backend.submit(request, mutation.clone(), covered.clone()).await;
            settle(&leases, change, &mutation, before, &outcome);
            if let Ok(changed) = &outcome {
                tell_files(&files, &changed.effects);
                // What the names stood for in the cluster, and not here.
                let mut others = changed.effects.changed.clone();
                others.retain(|inode| shows_others && !covered.contains(inode));
                forget_attributes(&*kernel, &leases, &others).await;
            }
            if matches!(&mutation, Mutation::Rename { parent, new_parent, .. } if parent != new_parent) {
                kernel.moves_name();
            }
            // Nobody may wait any more.
            let _ = answer_to.send(outcome.and_then(|changed| Ok(changed.result?)));
        });
        Box::pin(async move { answer.await.map_err(|_| unexpected("a change"))? })
    }

    /// Whether other mounts see what it changes as soon as the leader has made it. Not a flush under the
    /// exclusive lease, which ends first; and registrations show nowhere.
    fn shows_others(&self, mutation: &Mutation) -> bool {
        match mutation {
            Mutation::Create { .. }
            | Mutation::Link { .. }
            | Mutation::Unlink { .. }
            | Mutation::RemoveDirectory { .. }
            | Mutation::Rename { .. }
            | Mutation::SetAttributes { .. }
            | Mutation::SetXattr { .. }
            | Mutation::RemoveXattr { .. }
            | Mutation::SetAcl { .. }
            | Mutation::Allocate { .. }
            | Mutation::CopyRange { .. } => true,
            Mutation::Commit { inode, .. } => {
                !self.files.get(*inode).is_some_and(|file| file.lock().exclusive.owns_memory())
            }
            Mutation::Open { .. }
            | Mutation::AcquireExclusive { .. }
            | Mutation::GiveUpExclusive { .. }
            | Mutation::Release { .. }
            | Mutation::SetLock { .. }
            | Mutation::Unlock { .. }
            | Mutation::Accessed { .. } => false,
        }
    }
}

type Before = (Option<KnownName>, Option<KnownName>);

/// Makes the kernel ask for the attributes of these inodes if it may believe some.
async fn forget_attributes(kernel: &dyn KernelCaches, leases: &LeaseBook, inodes: &[InodeId]) {
    let believed = leases.lock().believed(inodes, leases.time().now);
    for inode in believed {
        kernel.attributes(inode).await;
    }
}

fn settle(
    leases: &LeaseBook,
    change: OwnChange,
    mutation: &Mutation,
    before: Before,
    outcome: &Result<Changed, ClientError>,
) {
    let mut cache = leases.lock();
    match outcome {
        Ok(Changed { result: Ok(result), effects }) => {
            // A rename that found another name of the same inode has changed nothing: both names stay,
            // whatever was known of them before.
            let before = if effects.changed.is_empty() { (None, None) } else { before };
            cache.made(change, effects, NameEffect::of(mutation, result, before));
        }
        Ok(Changed { result: Err(_), .. }) => cache.refused(change),
        // The session is over, or a defect: nothing is known for certain.
        Err(_) => cache.unknown(change),
    }
}

/// Files in use whose attributes an own change has made old: under the exclusive lease they are told
/// from there.
fn tell_files(files: &OpenFiles, effects: &ChangeEffects) {
    for inode in &effects.changed {
        let Some(file) = files.get(*inode) else { continue };
        let held = effects.held.iter().find(|attributes| attributes.inode == *inode);
        let mut inner = file.lock();
        match held {
            Some(attributes) => inner.merge(*attributes),
            None => inner.doubt(),
        }
    }
}

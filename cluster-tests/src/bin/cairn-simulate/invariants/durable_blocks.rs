//! No commit names a block that is not durable on a write quorum at the moment when the commit is
//! first applied, and none is missing from a quorum when the run is over.

use std::collections::BTreeSet;

use cairn_common::block::BlockId;
use cairn_common::extent::ExtentContent;
use cairn_common::protocol::metadata::Mutation;
use cairn_meta::namespace::command::{Action, Command, Outcome};

use crate::disk::SimDisk;

/// Of three replicas.
const QUORUM: usize = 2;

/// The disks, and all blocks that commits named.
pub(crate) struct DurableBlocks {
    disks: Vec<SimDisk>,
    named: BTreeSet<BlockId>,
}

impl DurableBlocks {
    pub(crate) fn new(disks: Vec<SimDisk>) -> Self {
        Self { disks, named: BTreeSet::new() }
    }

    fn replicas(&self, block: &BlockId) -> usize {
        self.disks.iter().filter(|disk| disk.has_durably(block)).count()
    }

    /// A command was applied for the first time anywhere.
    pub(crate) fn applied(&mut self, command: &Command, outcome: &Outcome) -> Option<String> {
        let Action::Mutate { mutation: Mutation::Commit { extents, inode, .. }, stamp, .. } = &command.action else {
            return None;
        };
        if !matches!(outcome, Outcome::Mutated { result: Ok(_), .. }) {
            return None;
        }
        let mut violation = None;
        for new in extents {
            let ExtentContent::Block(reference) = &new.extent.content else { continue };
            self.named.insert(reference.block);
            let replicas = self.replicas(&reference.block);
            if replicas < QUORUM {
                violation = Some(format!(
                    "durable blocks: session {} committed block {} of inode {inode}, which is durable on {replicas} disks",
                    stamp.session, reference.block
                ));
            }
        }
        violation
    }
}

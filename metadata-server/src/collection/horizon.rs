//! The two numbers of the whole cluster that collection needs. Replicated; 16 bytes, however many
//! blocks were ever collected.

use cairn_common::ids::Generation;

/// How far condemning has come, and how much of it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Horizon {
    /// The newest generation; told to everybody who asks for anything.
    pub generation: Generation,
    /// Every generation below may have lost blocks of which no record is left.
    pub floor: Generation,
}

impl Horizon {
    /// Begins a new generation, for a block that no file refers to *when the command is applied*.
    /// Returns what its record must say: replicas below this generation will be deleted. None if a
    /// file does refer to it: whatever the leader saw before, it has come too late.
    pub fn condemn(&mut self, is_referenced: bool) -> Option<Generation> {
        if is_referenced {
            return None;
        }
        self.generation.0 += 1;
        Some(self.generation)
    }

    /// Forgets a record: every owner has said that it holds nothing below it, or a file refers to
    /// the block again. From here on the floor remembers what the record knew.
    pub fn close(&mut self, condemned: Generation) {
        self.floor = self.floor.max(condemned);
    }
}

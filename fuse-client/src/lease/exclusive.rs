//! The exclusive lease of one file on this mount: whether writes may stay in memory. It is part of the
//! replicated state; this is the mount's idea of it, which is never more than the state has.

use std::time::Duration;

use cairn_common::client::LeaseTime;

/// After a refusal the lease is not asked for again for this long: the file goes from mount to mount.
const PAUSE: Duration = Duration::from_secs(1);

/// A file's exclusive lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exclusive {
    state: State,
    /// Messages under way that end it: nothing is told from memory, nothing is asked.
    leaving: u32,
    /// It has been asked back: pages that the kernel fills from here on may be left when it ends.
    announced: bool,
    /// Not asked for before then.
    not_before: Duration,
    /// The file was made under it, and it was not recalled since: nobody else can have the file open.
    unseen: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum State {
    #[default]
    None,
    Held,
    /// It ends soon: what is dirty is being flushed, and new writes wait.
    GivingUp,
}

/// What became of a grant that an answer brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The lease is held.
    Held,
    /// There is none.
    None,
    /// The cluster thinks that this mount has it, but a recall overtook the answer: it is to be given
    /// up unused.
    GiveUp,
}

impl Exclusive {
    /// Whether bytes, size and times may be changed in memory.
    pub fn may_buffer(&self, time: &LeaseTime) -> bool {
        self.state == State::Held && time.exclusive_valid()
    }

    /// Whether they may be told from memory.
    pub fn may_tell(&self, time: &LeaseTime) -> bool {
        matches!(self.state, State::Held | State::GivingUp) && time.exclusive_valid()
    }

    /// Whether what is in memory was written under it, whether or not it may be told just now. Without
    /// it, bytes in memory are those of writes that have not returned.
    pub fn owns_memory(&self) -> bool {
        self.state != State::None
    }

    /// Whether it covers pages that the kernel fills now: it will be told to drop them before it ends.
    pub fn covers_pages(&self, time: &LeaseTime) -> bool {
        self.may_buffer(time) && !self.announced
    }

    /// A recall has come. The kernel's pages fall next, for which writes must be taken in still; then
    /// [`Self::recalled`].
    pub fn announce_recall(&mut self) {
        self.announced = self.state == State::Held;
    }

    /// Whether it is held and not on its way out.
    pub fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// The file was just made by this mount.
    pub fn made(&mut self) {
        self.unseen = self.state == State::Held;
    }

    /// Whether no other mount can have opened the file, ever.
    pub fn is_unseen(&self, time: &LeaseTime) -> bool {
        self.unseen && self.may_buffer(time)
    }

    /// Whether it is on its way out: new writes wait for the end of that.
    pub fn is_ending(&self) -> bool {
        self.state == State::GivingUp || self.leaving > 0
    }

    /// Whether it may be asked for.
    pub fn may_ask(&self, now: Duration) -> bool {
        self.state == State::None && self.leaving == 0 && now >= self.not_before
    }

    /// An answer said whether the session has it. `recalled`: a recall of it came, or it was given up,
    /// since the question.
    pub fn answered(&mut self, exclusive: bool, recalled: bool, now: Duration) -> Grant {
        if self.state != State::None {
            return Grant::Held;
        }
        if self.leaving > 0 {
            // Whatever the cluster has said, it may have been told otherwise by now.
            return Grant::None;
        }
        match (exclusive, recalled) {
            (true, true) => Grant::GiveUp,
            (true, false) => {
                self.state = State::Held;
                Grant::Held
            }
            (false, _) => {
                self.not_before = now + PAUSE;
                Grant::None
            }
        }
    }

    /// It is to end: new writes wait. Answers whether it was held.
    pub fn recalled(&mut self) -> bool {
        self.unseen = false;
        if self.state == State::Held {
            self.state = State::GivingUp;
        }
        self.state == State::GivingUp
    }

    /// The cluster is about to be told that it ends.
    pub fn leave(&mut self) {
        self.unseen = false;
        self.announced = false;
        self.state = State::None;
        self.leaving += 1;
    }

    /// The cluster has answered that.
    pub fn ended(&mut self) {
        self.leaving = self.leaving.saturating_sub(1);
    }
}

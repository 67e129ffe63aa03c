//! What a mount may acknowledge before it is committed: its part of the chunk servers' write reserve.
//! Every such byte is charged to it before it is taken in, and for as long as a put of it may still come.
//! The keep-alive reports and renews it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::charge::Charge;
use crate::limits::{CHUNK_HEARTBEAT_INTERVAL, CHUNK_SERVER_TIMEOUT};
use crate::protocol::write_reserve::{ReserveReport, ReserveShare};

/// A mount that does not write holds so many bytes at most, to begin with.
const IDLE_BYTES: u64 = 4 << 20;
/// Who needed more asks for more for so long.
const BUSY: Duration = Duration::from_secs(10);
/// A write that needs more than is granted waits so long for the answer of a keep-alive that asks for it.
const ASKING: Duration = Duration::from_millis(100);
/// A mount that has met full disks believes that there is room only if it asked so much later: what the
/// leader answers then is made of reports that were made after the disks were met full.
const FULL_AT_LEAST: Duration = CHUNK_SERVER_TIMEOUT.saturating_add(CHUNK_HEARTBEAT_INTERVAL);

/// A mount's grant, and what is charged to it.
#[derive(Debug)]
pub struct WriteGrant {
    state: Mutex<State>,
    /// Bytes were released, or the grant has changed.
    changed: Notify,
    /// Somebody needs room: time to commit.
    pressed: Notify,
    /// More should be asked for now.
    wished: Notify,
}

#[derive(Debug)]
struct State {
    /// The mount's own bound, in bytes.
    limit: u64,
    used: u64,
    granted: u64,
    /// When full disks were met, on the clock of the keep-alives.
    full_since: Option<Duration>,
    /// More was needed than there is since the last report.
    wishes: bool,
    busy_until: Duration,
    number: u64,
    /// The newest report asked for all that could be used.
    asks_all: bool,
    /// And was answered.
    told_all: bool,
}

/// What became of asking for room.
enum Attempt {
    Charged,
    /// When others have released some.
    Later,
    /// When the leader grants more, perhaps.
    Asked,
    /// Not before the grant changes by itself.
    Refused,
}

impl State {
    fn limit_now(&self) -> u64 {
        if self.full_since.is_some() { 0 } else { self.granted.min(self.limit) }
    }

    fn is_pressed(&self) -> bool {
        self.used > self.limit_now() / 2
    }
}

impl Default for WriteGrant {
    fn default() -> Self {
        let state = State {
            limit: u64::MAX,
            used: 0,
            granted: 0,
            full_since: None,
            wishes: false,
            busy_until: Duration::ZERO,
            number: 0,
            asks_all: false,
            told_all: false,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), pressed: Notify::new(), wished: Notify::new() }
    }
}

impl WriteGrant {
    /// The mount's own bound, in bytes: no more than this is used or asked for.
    pub fn set_limit(&self, bytes: u64) {
        self.state.lock().limit = bytes;
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.state.lock().used
    }

    /// Bytes granted, whether they can be used or not.
    pub fn granted(&self) -> u64 {
        self.state.lock().granted
    }

    /// Whether full disks were met: nothing is charged.
    pub fn is_full(&self) -> bool {
        self.state.lock().full_since.is_some()
    }

    /// Whether more than half is used: time to commit what is stored.
    pub fn is_pressed(&self) -> bool {
        self.state.lock().is_pressed()
    }

    /// Waits until somebody needs room.
    pub async fn pressure(&self) {
        self.pressed.notified().await;
    }

    /// Full disks were met at `now`, on the clock of the keep-alives. Nothing more is charged when this
    /// returns. Answers whether that is new.
    pub fn mark_full(&self, now: Duration) -> bool {
        let is_new = {
            let mut state = self.state.lock();
            state.granted = 0;
            state.full_since.replace(now).is_none()
        };
        // Who waits for room must not buffer.
        self.changed.notify_waiters();
        self.wished.notify_one();
        is_new
    }

    /// Charges `bytes` now, if there is room.
    pub fn try_charge(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        matches!(self.attempt(bytes), Attempt::Charged).then(|| Charge::of(self.clone(), bytes))
    }

    /// Charges `bytes`; waits while that takes no more than others' commits, or one question. None: they
    /// cannot be buffered now. The caller bounds the wait.
    pub async fn charge(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        let asking = tokio::time::sleep(ASKING);
        tokio::pin!(asking);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.attempt(bytes) {
                Attempt::Charged => return Some(Charge::of(self.clone(), bytes)),
                Attempt::Refused => return None,
                Attempt::Later => changed.await,
                Attempt::Asked => tokio::select! {
                    () = changed => {}
                    () = &mut asking => return None,
                },
            }
        }
    }

    fn attempt(&self, bytes: u64) -> Attempt {
        let mut state = self.state.lock();
        let limit = state.limit_now();
        let fits = state.used.checked_add(bytes).is_some_and(|used| used <= limit);
        if fits {
            state.used += bytes;
        }
        let pressed = state.is_pressed();
        if pressed {
            self.pressed.notify_one();
        }
        let is_tight = !fits || state.used > limit / 4;
        if is_tight && state.full_since.is_none() {
            state.wishes = true;
            if limit < state.limit && !state.told_all {
                self.wished.notify_one();
            }
        }
        match fits {
            true => Attempt::Charged,
            false if bytes <= limit => Attempt::Later,
            false if state.full_since.is_none() && !state.told_all && bytes <= state.limit => Attempt::Asked,
            false => Attempt::Refused,
        }
    }

    /// Gives charged bytes back.
    pub(super) fn release(&self, bytes: u64) {
        {
            let mut state = self.state.lock();
            debug_assert!(state.used >= bytes, "released what was not charged");
            state.used = state.used.saturating_sub(bytes);
        }
        self.changed.notify_waiters();
    }

    /// Waits until more should be asked for.
    pub(super) async fn wished(&self) {
        self.wished.notified().await;
    }

    /// What a keep-alive that is sent at `now` says. One at a time: the one before was answered, or its
    /// answer will never be looked at.
    pub fn report(&self, now: Duration) -> ReserveReport {
        let mut state = self.state.lock();
        state.number += 1;
        if std::mem::take(&mut state.wishes) {
            state.busy_until = now + BUSY;
        }
        let full = state.full_since.is_some();
        let busy = state.busy_until > now;
        state.asks_all = busy && !full;
        let wanted = match (full, busy) {
            (true, _) => 0,
            (false, true) => state.limit,
            (false, false) => state.limit.min(IDLE_BYTES),
        };
        ReserveReport { number: state.number, held: state.granted.max(state.used), wanted, full }
    }

    /// The answer to the newest report, which was sent at `sent`; None: nothing changes.
    pub fn answered(&self, sent: Duration, share: Option<ReserveShare>) {
        {
            let mut state = self.state.lock();
            state.told_all = state.asks_all;
            let Some(share) = share else { return };
            if let Some(since) = state.full_since
                && !share.full
                && sent > since + FULL_AT_LEAST
            {
                state.full_since = None;
                tracing::info!("the cluster has room again: writes are buffered");
            }
            state.granted = if state.full_since.is_some() { 0 } else { share.granted };
        }
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn share(granted: u64) -> Option<ReserveShare> {
        Some(ReserveShare { granted, full: false })
    }

    fn granted(bytes: u64) -> Arc<WriteGrant> {
        let grant = Arc::new(WriteGrant::default());
        grant.set_limit(1000);
        grant.report(SECOND);
        grant.answered(SECOND, share(bytes));
        grant
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_charged_beyond_the_grant() {
        let grant = granted(0);
        assert!(grant.try_charge(1).is_none());
        assert!(grant.charge(1).await.is_none(), "no answer came in time");
        assert_eq!(grant.report(SECOND), ReserveReport { number: 2, held: 0, wanted: 1000, full: false });
        grant.answered(SECOND, share(100));
        let charge = grant.try_charge(60).unwrap();
        assert!(grant.try_charge(41).is_none());
        assert!(grant.charge(101).await.is_none(), "all was asked for, and this is what there is");
        grant.answered(SECOND, share(10));
        assert_eq!((grant.report(SECOND).held, grant.is_pressed()), (60, true), "held until it is released");
        assert!(grant.try_charge(1).is_none());
        drop(charge);
        assert_eq!((grant.report(SECOND).held, grant.used()), (10, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_mount_asks_for_little_and_a_writer_at_once_for_all() {
        let grant = Arc::new(WriteGrant::default());
        grant.set_limit(64 << 20);
        assert_eq!(grant.report(SECOND).wanted, IDLE_BYTES);
        grant.answered(SECOND, share(IDLE_BYTES));
        let first = grant.try_charge(3 << 20).unwrap();
        tokio::time::timeout(SECOND, grant.wished()).await.expect("half of it is used: asks at once");
        let waiter = tokio::spawn({
            let grant = grant.clone();
            async move { grant.charge(20 << 20).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(grant.report(SECOND).wanted, 64 << 20);
        grant.answered(SECOND, share(64 << 20));
        let second = waiter.await.unwrap().expect("granted while it waited");
        drop((first, second));
        assert_eq!(grant.report(SECOND).wanted, 64 << 20);
        assert_eq!(grant.report(SECOND * 20).wanted, IDLE_BYTES);
    }

    #[tokio::test]
    async fn full_disks_end_buffering_until_a_late_enough_answer() {
        let grant = granted(1000);
        let charge = grant.try_charge(700).unwrap();
        assert!(grant.mark_full(SECOND * 10) && !grant.mark_full(SECOND * 10));
        assert!(grant.charge(1).await.is_none());
        assert_eq!(grant.report(SECOND * 11), ReserveReport { number: 2, held: 700, wanted: 0, full: true });
        grant.answered(SECOND * 11, share(0));
        assert!(grant.is_full(), "made of reports of before");
        grant.answered(SECOND * 14, Some(ReserveShare { granted: 0, full: true }));
        assert!(grant.is_full());
        grant.answered(SECOND * 14, share(500));
        assert!(!grant.is_full() && grant.try_charge(1).is_none());
        drop(charge);
        assert!(grant.try_charge(500).is_some());
    }
}

//! When each session was last heard of. Volatile: a new leader gives every session the full
//! timeout again.

use std::collections::HashMap;
use std::time::Duration;

use cairn_common::ids::SessionId;
use parking_lot::Mutex;

/// Last sign of life of each session, on the leader's monotonic clock.
#[derive(Default)]
pub(super) struct SessionActivity {
    seen: Mutex<HashMap<SessionId, Sign>>,
}

#[derive(Clone, Copy)]
struct Sign {
    /// Counts for expiry.
    at: Duration,
    /// Whether the session itself was heard, or only taken over from the state.
    heard: bool,
    /// Its mount was started anew: this session is a dead process's, unless it speaks.
    superseded: bool,
}

impl SessionActivity {
    /// A session that is in the state but unknown here: its timer starts now.
    pub(super) fn learn(&self, session: SessionId, now: Duration) {
        self.seen.lock().entry(session).or_insert(Sign { at: now, heard: false, superseded: false });
    }

    /// A request that claims to come from a session: it counts only if the session is known.
    pub(super) fn beat(&self, session: SessionId, now: Duration) {
        if let Some(sign) = self.seen.lock().get_mut(&session) {
            (sign.at, sign.heard) = (now, true);
        }
    }

    /// A request of a session that exists.
    pub(super) fn touch(&self, session: SessionId, now: Duration) {
        let mut seen = self.seen.lock();
        let sign = seen.entry(session).or_insert(Sign { at: now, heard: true, superseded: false });
        (sign.at, sign.heard) = (now, true);
    }

    /// A newer session of the same mount was opened.
    pub(super) fn supersede(&self, session: SessionId) {
        if let Some(sign) = self.seen.lock().get_mut(&session) {
            sign.superseded = true;
        }
    }

    /// The session was ended.
    pub(super) fn forget(&self, session: SessionId) {
        self.seen.lock().remove(&session);
    }

    /// How long a session has been silent; None if it was not heard under this leader.
    pub(super) fn silence(&self, session: SessionId, now: Duration) -> Option<Duration> {
        self.seen.lock().get(&session).filter(|sign| sign.heard).map(|sign| now.saturating_sub(sign.at))
    }

    /// Sessions that were silent for longer than `timeout`, or than `superseded_timeout` if their mount
    /// was started anew, and how long.
    pub(super) fn expired(
        &self,
        timeout: Duration,
        superseded_timeout: Duration,
        now: Duration,
    ) -> Vec<(SessionId, Duration)> {
        let seen = self.seen.lock();
        let mut expired: Vec<_> = seen
            .iter()
            .map(|(session, sign)| (*session, sign.superseded, now.saturating_sub(sign.at)))
            .filter(|(_, superseded, silence)| *silence > if *superseded { superseded_timeout } else { timeout })
            .map(|(session, _, silence)| (session, silence))
            .collect();
        expired.sort_unstable();
        expired
    }

    /// The leader itself was away (stopped, starved) for `gap`: nobody could reach it, so nobody's
    /// silence counts for that time.
    pub(super) fn excuse(&self, gap: Duration) {
        self.seen.lock().values_mut().for_each(|sign| sign.at += gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_expires_and_a_sign_of_life_or_an_absent_leader_prolongs() {
        let activity = SessionActivity::default();
        let (a, b) = (SessionId(1), SessionId(2));
        activity.learn(a, SECOND * 100);
        activity.learn(b, SECOND * 100);
        activity.touch(b, SECOND * 125);
        assert_eq!(activity.silence(a, SECOND * 131), None, "never heard under this leader");
        assert_eq!(activity.silence(b, SECOND * 131), Some(SECOND * 6));
        assert_eq!(activity.expired(SECOND * 30, SECOND * 5, SECOND * 130), vec![]);
        assert_eq!(activity.expired(SECOND * 30, SECOND * 5, SECOND * 131), vec![(a, SECOND * 31)]);
        activity.excuse(SECOND * 60);
        assert_eq!(activity.expired(SECOND * 30, SECOND * 5, SECOND * 190), vec![], "the leader was away");
        activity.learn(b, SECOND * 500);
        assert_eq!(activity.silence(b, SECOND * 190), Some(SECOND * 5), "learning does not count as hearing");
    }

    #[test]
    fn a_superseded_session_expires_early_unless_it_speaks() {
        let activity = SessionActivity::default();
        let (old, silent) = (SessionId(1), SessionId(2));
        activity.touch(old, SECOND * 100);
        activity.touch(silent, SECOND * 100);
        activity.supersede(old);
        activity.supersede(silent);
        activity.touch(old, SECOND * 104);
        assert_eq!(activity.expired(SECOND * 30, SECOND * 5, SECOND * 106), vec![(silent, SECOND * 6)]);
    }
}

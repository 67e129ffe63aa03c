//! Chunk servers as the leader knows them: their records from the state, and what they reported to
//! this leader. A server that registers under the name of an older one has taken its place (it was
//! wiped): the older is retired and its disks are gone for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_common::ids::{ChunkNodeId, DiskId, Incarnation};
use cairn_common::protocol::chunk_control::DiskReport;
use parking_lot::Mutex;

use crate::namespace::cluster::ChunkServerRecord;
use crate::placement::PlacementDisk;
use crate::write_reserve::DiskReserve;

/// All chunk servers that are not retired.
#[derive(Default)]
pub(super) struct Roster {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    servers: BTreeMap<ChunkNodeId, Server>,
    /// When the newest was taken in.
    changed: Duration,
}

/// A chunk server.
#[derive(Clone)]
pub(super) struct Server {
    /// As it registered.
    pub(super) record: ChunkServerRecord,
    /// When it last reported to this leader.
    pub(super) seen: Option<Duration>,
    /// When this leader took it in; counts for a server that never reported.
    pub(super) since: Duration,
    /// Its disks as last reported.
    pub(super) reports: Vec<DiskReport>,
}

impl Server {
    /// How long it has been silent.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.seen.unwrap_or(self.since))
    }
}

impl Roster {
    /// Takes in the records of the state. Returns whether disks came, went or changed.
    pub(super) fn update(&self, records: Vec<ChunkServerRecord>, now: Duration) -> bool {
        let mut newest: BTreeMap<String, ChunkNodeId> = BTreeMap::new();
        for record in &records {
            let node = newest.entry(record.name.clone()).or_insert(record.node);
            *node = record.node.max(*node);
        }
        let mut state = self.state.lock();
        let mut servers = BTreeMap::new();
        let mut changed = false;
        for record in records.into_iter().filter(|record| newest[&record.name] == record.node) {
            let known = state.servers.remove(&record.node);
            changed |= known.as_ref().is_none_or(|known| {
                known.record.disks != record.disks || known.record.failure_domain != record.failure_domain
            });
            let server = match known {
                Some(known) => Server { record, ..known },
                None => Server { record, seen: None, since: now, reports: Vec::new() },
            };
            servers.insert(server.record.node, server);
        }
        changed |= !state.servers.is_empty();
        state.servers = servers;
        if changed {
            state.changed = now;
        }
        changed
    }

    /// Takes in a report. False: no such server, or it lives on under another incarnation.
    pub(super) fn report(
        &self,
        node: ChunkNodeId,
        incarnation: Incarnation,
        reports: Vec<DiskReport>,
        now: Duration,
    ) -> bool {
        let mut state = self.state.lock();
        let Some(server) = state.servers.get_mut(&node).filter(|server| server.record.incarnation == incarnation)
        else {
            return false;
        };
        server.seen = Some(now);
        server.reports = reports;
        server.reports.retain(|report| server.record.disks.iter().any(|(disk, _, _)| *disk == report.disk));
        true
    }

    /// Whether the server is known, and has the name.
    pub(super) fn is_named(&self, node: ChunkNodeId, name: &str) -> bool {
        self.state.lock().servers.get(&node).is_some_and(|server| server.record.name == name)
    }

    /// Disks of a server; none if it is unknown.
    pub(super) fn disks_of(&self, node: ChunkNodeId) -> BTreeSet<DiskId> {
        let state = self.state.lock();
        state.servers.get(&node).map(|s| s.record.disks.iter().map(|(disk, _, _)| *disk).collect()).unwrap_or_default()
    }

    /// Disks whose server reported within `timeout` and which have not failed.
    pub(super) fn live_disks(&self, timeout: Duration, now: Duration) -> BTreeSet<DiskId> {
        let state = self.state.lock();
        let live = state.servers.values().filter(|server| server.seen.is_some() && server.silence(now) <= timeout);
        live.flat_map(|server| {
            let failed =
                |disk: DiskId| server.reports.iter().any(|report| report.disk == disk && report.failure.is_some());
            server.record.disks.iter().map(|(disk, _, _)| *disk).filter(move |disk| !failed(*disk))
        })
        .collect()
    }

    /// All servers.
    pub(super) fn servers(&self) -> Vec<Server> {
        self.state.lock().servers.values().cloned().collect()
    }

    /// Capacity and free bytes of all disks; a disk that did not report yet counts as free.
    pub(super) fn space(&self) -> (u64, u64) {
        let state = self.state.lock();
        let mut space = (0u64, 0u64);
        for server in state.servers.values() {
            for (disk, _, capacity) in &server.record.disks {
                let report = server.reports.iter().find(|report| report.disk == *disk);
                let (total, free) = report.map_or((*capacity, *capacity), |r| (r.capacity_bytes, r.free_bytes));
                space.0 = space.0.saturating_add(total);
                space.1 = space.1.saturating_add(free);
            }
        }
        space
    }

    /// Reserves of the disks whose server reported within `timeout` and which have not failed, and how many
    /// others there are. None while a server that may live has not reported to this leader yet.
    pub(super) fn reserves(&self, timeout: Duration, now: Duration) -> Option<(Vec<DiskReserve>, usize)> {
        let state = self.state.lock();
        let (mut live, mut disks) = (Vec::new(), 0);
        for server in state.servers.values() {
            disks += server.record.disks.len();
            let is_silent = server.silence(now) > timeout;
            if server.seen.is_none() && !is_silent {
                return None;
            }
            let working = server.reports.iter().filter(|report| !is_silent && report.failure.is_none());
            live.extend(working.map(|report| DiskReserve {
                reserve: report.reserve_bytes,
                room: report.room_bytes,
                file_system: report.file_system,
            }));
        }
        let silent = disks.saturating_sub(live.len());
        Some((live, silent))
    }

    /// Disks that partitions may be placed on. A server that was silent for longer than `lost` is
    /// left out, as long as `replicas` other nodes remain.
    pub(super) fn placement_disks(&self, replicas: u8, lost: Duration, now: Duration) -> Vec<PlacementDisk> {
        let state = self.state.lock();
        let with_disks = || state.servers.values().filter(|server| !server.record.disks.is_empty());
        let present = with_disks().filter(|server| server.silence(now) <= lost).count();
        let drop_lost = present >= usize::from(replicas);
        with_disks()
            .filter(|server| !drop_lost || server.silence(now) <= lost)
            .flat_map(|server| {
                server.record.disks.iter().map(|(disk, _, capacity)| PlacementDisk {
                    disk: *disk,
                    node: server.record.node,
                    failure_domain: server.record.failure_domain.clone(),
                    weight: *capacity,
                })
            })
            .collect()
    }

    /// How long no server has been taken in.
    pub(super) fn settled_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.state.lock().changed)
    }

    /// The leader itself was away for `gap`: nobody's silence counts for that time.
    pub(super) fn excuse(&self, gap: Duration) {
        for server in self.state.lock().servers.values_mut() {
            server.since += gap;
            server.seen = server.seen.map(|seen| seen + gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_common::ids::DiskUuid;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(node: u32, name: &str) -> ChunkServerRecord {
        ChunkServerRecord {
            node: ChunkNodeId(node),
            incarnation: Incarnation(u128::from(node)),
            name: name.into(),
            address: ([127, 0, 0, 1], 7000).into(),
            failure_domain: name.into(),
            disks: vec![(DiskId(node * 10), DiskUuid(1), 1000)],
        }
    }

    #[test]
    fn a_server_that_comes_back_wiped_retires_its_former_self() {
        let roster = Roster::default();
        assert!(roster.update(vec![record(1, "a"), record(2, "b")], SECOND));
        assert!(!roster.update(vec![record(1, "a"), record(2, "b")], SECOND * 2), "nothing new");
        assert!(roster.report(ChunkNodeId(1), Incarnation(1), vec![], SECOND * 2));
        assert!(roster.update(vec![record(1, "a"), record(2, "b"), record(3, "a")], SECOND * 3));
        assert!(!roster.report(ChunkNodeId(1), Incarnation(1), vec![], SECOND * 4), "the former self must register");
        let disks: Vec<_> = roster.placement_disks(2, SECOND * 60, SECOND * 4).iter().map(|d| d.disk.0).collect();
        assert_eq!(disks, [20, 30]);
    }

    #[test]
    fn a_lost_server_is_left_out_only_while_enough_others_remain() {
        let roster = Roster::default();
        roster.update(vec![record(1, "a"), record(2, "b"), record(3, "c")], SECOND);
        for (node, at) in [(1, 1), (2, 90), (3, 90)] {
            assert!(roster.report(ChunkNodeId(node), Incarnation(u128::from(node)), vec![], SECOND * at));
        }
        let placed = |replicas| roster.placement_disks(replicas, SECOND * 60, SECOND * 100).len();
        assert_eq!((placed(2), placed(3)), (2, 3));
        assert_eq!(roster.live_disks(SECOND * 15, SECOND * 100), BTreeSet::from([DiskId(20), DiskId(30)]));
        roster.excuse(SECOND * 60);
        assert_eq!(roster.placement_disks(2, SECOND * 60, SECOND * 110).len(), 3, "the leader was away");
    }
}

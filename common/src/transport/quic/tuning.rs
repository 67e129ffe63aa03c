//! What QUIC is told about the network it runs on: a data centre or a loopback, not the internet.
//! Figures and the measurements behind them: `docs/decisions/2026-11-21-quic-tuning.md`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::reset_key::RandomConnectionIds;
use quinn::congestion::CubicConfig;
use quinn::crypto::HmacKey;
use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// Largest UDP payload over IPv4, in bytes; Linux refuses a larger GSO batch as well.
pub(super) const MAX_BATCH_BYTES: usize = 65_507;
/// The smallest packet size that QUIC allows, in bytes; every network carries it.
const SMALLEST_MTU_BYTES: u16 = 1200;
/// Socket buffers below this, in bytes, hold too few packets of the largest size.
const LARGE_PACKETS_NEED_BYTES: usize = 1 << 20;
/// Packets on a loopback with small socket buffers, in bytes.
const MODEST_LOOPBACK_MTU_BYTES: u16 = 6500;
/// Requests that a peer may have under way on one connection.
const MAX_STREAMS: u32 = 4096;
/// Unacknowledged bytes of one stream: a whole largest payload and its message.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Unacknowledged bytes of one connection.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Bytes in flight before the first acknowledgement: at most this, and half a socket buffer.
const INITIAL_CONGESTION_WINDOW_BYTES: usize = 1 << 20;

/// What may be chosen; the default is what was measured best.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// UDP payload of a packet over a loopback, in bytes; used from the first packet on. Less if the
    /// kernel grants small socket buffers only.
    pub loopback_mtu_bytes: u16,
    /// Largest UDP payload over a network, in bytes. It is searched for upwards from 1200 (RFC 8899),
    /// so a smaller path MTU costs a few lost probes only.
    pub network_mtu_bytes: u16,
    /// Give the kernel batches of packets (UDP GSO). A batch is kept below 64 KiB, because Linux
    /// refuses a larger one and quinn-udp takes that for sent.
    pub segmentation_offload: bool,
    /// Bound of a handshake, both sides.
    pub connect_timeout: Duration,
    /// After a failed connect, calls to the same server fail at once for this long.
    pub back_off: Duration,
    /// A connection is dead after this long without a packet from the peer.
    pub idle_timeout: Duration,
    /// The client asks for a sign of life this often.
    pub keep_alive: Duration,
    /// A connection without requests is closed after this long.
    pub unused_timeout: Duration,
    /// Connections to one server for file data.
    pub bulk_connections: u8,
    /// Bytes of socket buffers, each direction; less if the kernel allows less.
    pub socket_buffer_bytes: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            loopback_mtu_bytes: 65_000,
            network_mtu_bytes: 8972,
            segmentation_offload: true,
            connect_timeout: Duration::from_secs(1),
            back_off: Duration::from_millis(150),
            idle_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_millis(400),
            unused_timeout: Duration::from_secs(60),
            // At most four.
            bulk_connections: (cores / 2).clamp(1, 4) as u8,
            socket_buffer_bytes: 4 << 20,
        }
    }
}

impl Tuning {
    /// These wishes, cut down to what the kernel grants.
    pub(super) fn settled(mut self, granted_buffer_bytes: usize) -> Self {
        self.socket_buffer_bytes = self.socket_buffer_bytes.min(granted_buffer_bytes);
        if self.socket_buffer_bytes < LARGE_PACKETS_NEED_BYTES {
            self.loopback_mtu_bytes = self.loopback_mtu_bytes.min(MODEST_LOOPBACK_MTU_BYTES);
        }
        self.loopback_mtu_bytes = self.loopback_mtu_bytes.max(SMALLEST_MTU_BYTES);
        self.network_mtu_bytes = self.network_mtu_bytes.max(SMALLEST_MTU_BYTES);
        self
    }

    fn largest_mtu(&self) -> u16 {
        self.loopback_mtu_bytes.max(self.network_mtu_bytes)
    }

    /// Packets in one system call, for connections that use batches (see [`Self::batches`]).
    pub(super) fn max_segments(&self) -> usize {
        let batched = [self.loopback_mtu_bytes, self.network_mtu_bytes].into_iter().filter(|mtu| self.batches(*mtu));
        batched.map(|mtu| MAX_BATCH_BYTES / usize::from(mtu)).min().unwrap_or(1)
    }

    /// Whether packets of this size are worth batches: at least two must fit.
    fn batches(&self, mtu: u16) -> bool {
        self.segmentation_offload && usize::from(mtu) <= MAX_BATCH_BYTES / 2
    }

    /// Packets that the kernel may hand over as one; a batch never has more than 64 KiB.
    pub(super) fn receive_segments(&self) -> usize {
        MAX_BATCH_BYTES.div_ceil(usize::from(self.largest_mtu())) + 1
    }

    pub(super) fn endpoint(&self, reset_key: Arc<dyn HmacKey>) -> EndpointConfig {
        let mut config = EndpointConfig::new(reset_key);
        // Without this, the peer may not send more than 1472 bytes a packet. Cannot fail: the
        // smallest valid value is 1200.
        let _ = config.max_udp_payload_size(self.largest_mtu());
        config.cid_generator(|| Box::new(RandomConnectionIds));
        config.min_reset_interval(Duration::from_millis(5));
        config
    }

    pub(super) fn transport(&self, peer: IpAddr, client: bool) -> TransportConfig {
        let (mtu, first_mtu) = if peer.is_loopback() {
            (self.loopback_mtu_bytes, self.loopback_mtu_bytes)
        } else {
            (self.network_mtu_bytes, SMALLEST_MTU_BYTES)
        };
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(mtu);
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(10));
        let mut congestion = CubicConfig::default();
        let window = INITIAL_CONGESTION_WINDOW_BYTES.min(self.socket_buffer_bytes / 2);
        congestion.initial_window(window as u64);

        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(u64::from(CONNECTION_WINDOW_BYTES))
            .initial_rtt(Duration::from_millis(2))
            .initial_mtu(first_mtu)
            .mtu_discovery_config(Some(discovery))
            .ack_frequency_config(Some(acks))
            .congestion_controller_factory(Arc::new(congestion))
            .enable_segmentation_offload(self.batches(mtu))
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            .keep_alive_interval(client.then_some(self.keep_alive));
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_never_exceeds_what_linux_sends() {
        for loopback_mtu_bytes in [1200, 6500, 32_000, 33_000, 65_507] {
            for network_mtu_bytes in [1200, 1452, 8972, 32_000, 65_507] {
                let tuning = Tuning { loopback_mtu_bytes, network_mtu_bytes, ..Tuning::default() };
                for mtu in [loopback_mtu_bytes, network_mtu_bytes] {
                    let segments = if tuning.batches(mtu) { tuning.max_segments() } else { 1 };
                    assert!(segments >= 1 && segments * usize::from(mtu) <= MAX_BATCH_BYTES, "{tuning:?}");
                }
            }
        }
        assert_eq!(Tuning::default().max_segments(), 7);
    }

    #[test]
    fn small_socket_buffers_get_small_packets() {
        assert_eq!(Tuning::default().settled(8 << 20).loopback_mtu_bytes, 65_000);
        assert_eq!(Tuning::default().settled(212_992).loopback_mtu_bytes, 6500);
    }
}

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
/// Requests that a peer may have under way on one connection.
const MAX_STREAMS: u32 = 4096;
/// Unacknowledged bytes of one stream: a whole largest payload and its message.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Unacknowledged bytes of one connection.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Bytes in flight before the first acknowledgement.
const INITIAL_CONGESTION_WINDOW_BYTES: u64 = 1 << 20;

/// What may be chosen; the default is what was measured best.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Largest UDP payload, in bytes. At once on a loopback; elsewhere it is searched for
    /// upwards from 1200 (RFC 8899), so a smaller path MTU costs a few lost probes only.
    pub mtu_bytes: u16,
    /// Give the kernel batches of packets (UDP GSO). Batches are kept below 64 KiB, which Linux
    /// would refuse and quinn-udp would swallow as sent.
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
            mtu_bytes: 6500,
            segmentation_offload: true,
            connect_timeout: Duration::from_secs(1),
            back_off: Duration::from_millis(150),
            idle_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_millis(400),
            unused_timeout: Duration::from_secs(60),
            // At most four.
            bulk_connections: (cores / 2).clamp(1, 4) as u8,
            socket_buffer_bytes: 8 << 20,
        }
    }
}

impl Tuning {
    /// Largest number of packets in one system call.
    pub(super) fn max_segments(&self) -> usize {
        if self.segmentation_offload { MAX_BATCH_BYTES / usize::from(self.mtu_bytes.max(1200)) } else { 1 }
    }

    pub(super) fn endpoint(&self, reset_key: Arc<dyn HmacKey>) -> EndpointConfig {
        let mut config = EndpointConfig::new(reset_key);
        // Without this, the peer may not send more than 1472 bytes a packet. Cannot fail: the
        // smallest valid value is 1200.
        let _ = config.max_udp_payload_size(self.mtu_bytes.max(1200));
        config.cid_generator(|| Box::new(RandomConnectionIds));
        config.min_reset_interval(Duration::from_millis(5));
        config
    }

    pub(super) fn transport(&self, peer: IpAddr, client: bool) -> TransportConfig {
        let mtu = self.mtu_bytes.max(1200);
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(mtu);
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(10));
        let mut congestion = CubicConfig::default();
        congestion.initial_window(INITIAL_CONGESTION_WINDOW_BYTES);

        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(u64::from(CONNECTION_WINDOW_BYTES))
            .initial_rtt(Duration::from_millis(2))
            .initial_mtu(if peer.is_loopback() { mtu } else { 1200 })
            .mtu_discovery_config(Some(discovery))
            .ack_frequency_config(Some(acks))
            .congestion_controller_factory(Arc::new(congestion))
            .enable_segmentation_offload(self.segmentation_offload)
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
        for mtu_bytes in [1200, 1452, 6500, 8972, 32_000, 65_507] {
            let tuning = Tuning { mtu_bytes, ..Tuning::default() };
            let batch = tuning.max_segments() * usize::from(mtu_bytes);
            assert!(tuning.max_segments() >= 1 && batch <= MAX_BATCH_BYTES, "{mtu_bytes}");
        }
    }
}

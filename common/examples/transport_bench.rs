//! Requests a second and megabytes a second of the QUIC transport over a loopback, client and server
//! in one process, for several packet sizes. The figures in `docs/decisions/2026-11-21-quic-tuning.md`
//! are its output: `cargo run --release -p cairn-common --example transport_bench -- SECONDS SOCKET_BUFFER_BYTES MTU`.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cairn_common::identity::{ClusterAuthority, Identity};
use cairn_common::ids::{ClusterId, RequestId};
use cairn_common::protocol::{Role, Service, ServiceError};
use cairn_common::transport::quic::{QuicServer, QuicTransport, Tuning};
use cairn_common::transport::{Answer, Call, Incoming, PeerIdentity, RequestHandler, Transport};

/// Takes everything, and gives as many bytes as the message says.
struct Bench(Bytes);

#[async_trait]
impl RequestHandler for Bench {
    async fn handle(&self, _: Arc<PeerIdentity>, incoming: Incoming) -> Result<Answer, ServiceError> {
        let want = incoming.header.first().map_or(0, |shift| if *shift == 0 { 0 } else { 1usize << shift });
        Ok(Answer { header: Bytes::new(), payload: vec![self.0.slice(..want)] })
    }
}

struct Load {
    name: &'static str,
    send_bytes: usize,
    /// Power of two of the answer's size; 0 for none.
    receive_shift: u8,
    in_flight: usize,
}

const LOADS: [Load; 5] = [
    Load { name: "4 KiB put, 64 at once", send_bytes: 4 << 10, receive_shift: 0, in_flight: 64 },
    Load { name: "4 KiB put, 1 at once", send_bytes: 4 << 10, receive_shift: 0, in_flight: 1 },
    Load { name: "4 MiB put, 4 at once", send_bytes: 4 << 20, receive_shift: 0, in_flight: 4 },
    Load { name: "4 MiB put, 1 at once", send_bytes: 4 << 20, receive_shift: 0, in_flight: 1 },
    Load { name: "4 MiB get, 4 at once", send_bytes: 0, receive_shift: 22, in_flight: 4 },
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    cairn_common::telemetry::init("transport_bench", "bench");
    let folder = tempfile::tempdir()?;
    let authority = ClusterAuthority::generate(ClusterId::random())?;
    let server_identity = Identity::load(&authority.issue_into(folder.path(), Role::Chunk, "server")?)?;
    let client_identity = Identity::load(&authority.issue_into(folder.path(), Role::Mount, "client")?)?;
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(2.0), |s| s.parse())?;
    let socket_buffer_bytes =
        std::env::args().nth(2).map_or(Ok(Tuning::default().socket_buffer_bytes), |s| s.parse())?;
    println!("{:>6} {:>5}  {:<24} {:>12} {:>10} {:>10}", "MTU", "GSO", "load", "requests/s", "MB/s", "worst ms");
    let only: Option<u16> = std::env::args().nth(3).map(|s| s.parse()).transpose()?;
    for (mtu_bytes, segmentation_offload) in
        [(1452, true), (6500, true), (8972, false), (8972, true), (16_000, true), (32_000, true), (65_000, true)]
    {
        if only.is_some_and(|only| only != mtu_bytes) {
            continue;
        }
        let tuning = Tuning {
            loopback_mtu_bytes: mtu_bytes,
            network_mtu_bytes: mtu_bytes.min(8972),
            segmentation_offload,
            socket_buffer_bytes,
            ..Tuning::default()
        };
        let data = Bytes::from(vec![7; 4 << 20]);
        let server = QuicServer::serve_with(
            ([127, 0, 0, 1], 0).into(),
            &server_identity,
            Arc::new(Bench(data.clone())),
            tuning.clone(),
        )?;
        let transport = Arc::new(QuicTransport::with_tuning(&client_identity, tuning)?);
        for load in &LOADS {
            let duration = Duration::from_secs_f64(seconds);
            let (requests, took, worst) = run(&transport, server.local_address(), load, &data, duration).await;
            let rate = requests as f64 / took.as_secs_f64();
            let bytes = load.send_bytes + if load.receive_shift == 0 { 0 } else { 1 << load.receive_shift };
            println!(
                "{mtu_bytes:>6} {:>5}  {:<24} {rate:>12.0} {:>10.0} {:>10.1}",
                if segmentation_offload { "on" } else { "off" },
                load.name,
                rate * bytes as f64 / 1e6,
                worst.as_secs_f64() * 1e3,
            );
        }
        transport.close();
        server.shutdown(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Requests done, time taken, longest request.
async fn run(
    transport: &Arc<QuicTransport>,
    address: SocketAddr,
    load: &Load,
    data: &Bytes,
    duration: Duration,
) -> (u64, Duration, Duration) {
    let started = Instant::now();
    let tasks: Vec<_> = (0..load.in_flight)
        .map(|_| {
            let transport = transport.clone();
            let payload = data.slice(..load.send_bytes);
            let header = Bytes::copy_from_slice(&[load.receive_shift]);
            tokio::spawn(async move {
                let (mut requests, mut worst) = (0, Duration::ZERO);
                while started.elapsed() < duration {
                    let call = Call {
                        service: Service::Chunk,
                        request: RequestId(1),
                        timeout: Duration::from_secs(10),
                        header: header.clone(),
                        payload: vec![payload.clone()],
                    };
                    let sent = Instant::now();
                    match transport.call(address, call).await {
                        Ok(_) => requests += 1,
                        Err(error) => println!("{error}"),
                    }
                    worst = worst.max(sent.elapsed());
                }
                (requests, worst)
            })
        })
        .collect();
    let (mut requests, mut worst) = (0, Duration::ZERO);
    for task in tasks {
        if let Ok((n, w)) = task.await {
            requests += n;
            worst = worst.max(w);
        }
    }
    (requests, started.elapsed(), worst)
}

//! The transport over a real loopback: what is sent arrives, many at once, within the time allowed.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_common::limits::{MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES};
use cairn_common::protocol::{Role, Service, ServiceError};
use cairn_common::transport::{Transport, TransportError};
use support::{Cluster, Echo, call, eventually};

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_every_size_come_back() {
    let cluster = Cluster::new();
    let server = cluster.serve(Role::Chunk, Arc::new(Echo::default()));
    let transport = cluster.transport(Role::Mount);
    for bytes in [0, 1, 23, 24, 1199, 1200, 6500, 65_536, 1 << 20, (4 << 20) + 1, 8 << 20, MAX_PAYLOAD_BYTES] {
        let data = Bytes::from(pattern(bytes));
        // In pieces of uneven sizes, as a put of many blocks is.
        let (first, rest) = data.split_at(bytes / 3);
        let pieces = vec![Bytes::copy_from_slice(first), Bytes::new(), Bytes::copy_from_slice(rest)];
        let answer = transport.call(server.local_address(), call(Service::Chunk, "echo", pieces)).await.unwrap();
        assert_eq!(&answer.header[..], b"echo");
        assert_eq!(answer.payload.concat(), data, "{bytes} bytes");
        assert!(answer.payload.len() <= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once() {
    let cluster = Cluster::new();
    let server = cluster.serve(Role::Metadata, Arc::new(Echo::default()));
    let transport = Arc::new(cluster.transport(Role::Mount));
    let started = Instant::now();
    let tasks: Vec<_> = (0..1000)
        .map(|i| {
            let (transport, address) = (transport.clone(), server.local_address());
            tokio::spawn(async move {
                let word = format!("{i}");
                let answer = transport.call(address, call(Service::Metadata, &word, vec![])).await.unwrap();
                assert_eq!(&answer.header[..], word.as_bytes());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_panics_are_answers() {
    let cluster = Cluster::new();
    let server = cluster.serve(Role::Chunk, Arc::new(Echo::default()));
    let transport = cluster.transport(Role::Mount);
    let address = server.local_address();
    let failed = transport.call(address, call(Service::Chunk, "fail", vec![])).await.unwrap_err();
    assert!(
        matches!(&failed, TransportError::Refused { error: ServiceError::NoSpace { reason }, .. } if reason == "disk1 is full"),
        "{failed}"
    );
    let panicked = transport.call(address, call(Service::Chunk, "panic", vec![])).await.unwrap_err();
    assert!(matches!(panicked, TransportError::Refused { error: ServiceError::Internal { .. }, .. }), "{panicked}");
    transport.call(address, call(Service::Chunk, "still alive", vec![])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_not_sent() {
    let cluster = Cluster::new();
    let echo = Arc::new(Echo::default());
    let server = cluster.serve(Role::Chunk, echo.clone());
    let transport = cluster.transport(Role::Mount);
    let payload = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
    let error = transport.call(server.local_address(), call(Service::Chunk, "", vec![payload])).await.unwrap_err();
    assert!(matches!(&error, TransportError::Invalid { reason, .. } if reason.contains("payload")), "{error}");
    let mut large = call(Service::Chunk, "", vec![]);
    large.header = vec![0; MAX_HEADER_BYTES + 1].into();
    let error = transport.call(server.local_address(), large).await.unwrap_err();
    assert!(matches!(&error, TransportError::Invalid { reason, .. } if reason.contains("message")), "{error}");
    assert_eq!(echo.started.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_waits_no_longer_than_it_said_and_the_handler_ends_all_the_same() {
    let cluster = Cluster::new();
    let echo = Arc::new(Echo::default());
    let server = cluster.serve(Role::Metadata, echo.clone());
    let transport = cluster.transport(Role::Mount);
    let started = Instant::now();
    let mut slow = call(Service::Metadata, "sleep:700", vec![]);
    slow.timeout = Duration::from_millis(200);
    let error = transport.call(server.local_address(), slow).await.unwrap_err();
    assert!(matches!(&error, TransportError::NoAnswer { reason, .. } if reason.contains("200 ms")), "{error}");
    assert!(started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
    assert_eq!(echo.finished.load(Ordering::SeqCst), 0);
    eventually("the handler runs to its end", || echo.finished.load(Ordering::SeqCst) == 1).await;

    // The caller's future is dropped: the same.
    let dropped = transport.call(server.local_address(), call(Service::Metadata, "sleep:300", vec![]));
    assert!(tokio::time::timeout(Duration::from_millis(100), dropped).await.is_err());
    eventually("the handler runs to its end", || echo.finished.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_requests_end_and_refuses_new_ones_untouched() {
    let cluster = Cluster::new();
    let echo = Arc::new(Echo::default());
    let server = cluster.serve(Role::Metadata, echo.clone());
    let transport = Arc::new(cluster.transport(Role::Mount));
    let address = server.local_address();
    let slow = {
        let transport = transport.clone();
        tokio::spawn(async move { transport.call(address, call(Service::Metadata, "sleep:400", vec![])).await })
    };
    eventually("the request runs", || echo.started.load(Ordering::SeqCst) == 1).await;
    let ending = tokio::spawn(async move { server.shutdown(Duration::from_secs(5)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = transport.call(address, call(Service::Metadata, "late", vec![])).await.unwrap_err();
    assert!(matches!(late, TransportError::Unreachable { .. }), "{late}");
    slow.await.unwrap().expect("a request under way is answered");
    ending.await.unwrap();
    assert_eq!(echo.started.load(Ordering::SeqCst), 1);
}

//! The metrics endpoint inside a running program: requests over QUIC show up in what Prometheus
//! fetches over HTTP, with help and labels.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cairn_common::protocol::{Role, Service};
use cairn_common::telemetry;
use cairn_common::transport::Transport;
use support::{Cluster, Echo, call, local};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_and_served() {
    telemetry::init("cairn-test", "test1");
    telemetry::init("cairn-test", "again, which changes nothing");
    let cluster = Cluster::new();
    let server = cluster.serve(Role::Chunk, Arc::new(Echo::default()));
    let transport = cluster.transport(Role::Mount);
    for word in ["one", "two", "fail"] {
        let _ = transport.call(server.local_address(), call(Service::Chunk, word, vec![])).await;
    }
    let metrics = telemetry::serve_metrics(local(0)).await.unwrap();
    let text = scrape(metrics.local_address(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    for line in [
        "# HELP cairn_requests_total Requests answered, by service and outcome (ok, error).",
        "# TYPE cairn_request_seconds histogram",
        "cairn_requests_total{program=\"cairn-test\",name=\"test1\",service=\"chunk\",outcome=\"ok\"} 2",
        "cairn_requests_total{program=\"cairn-test\",name=\"test1\",service=\"chunk\",outcome=\"error\"} 1",
        "cairn_calls_total{program=\"cairn-test\",name=\"test1\",service=\"chunk\",outcome=\"refused\"} 1",
        "cairn_transport_connections{program=\"cairn-test\",name=\"test1\",side=\"client\",lane=\"bulk\"} 1",
        "service=\"chunk\",le=\"0.0001\"}",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(scrape(metrics.local_address(), "POST / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405 "));

    let error = telemetry::serve_metrics(metrics.local_address()).await.err().unwrap().to_string();
    assert!(error.contains("`metrics`") && error.contains(&metrics.local_address().to_string()), "{error}");
}

async fn scrape(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

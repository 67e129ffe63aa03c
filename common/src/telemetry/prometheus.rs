//! The Prometheus endpoint: HTTP on TCP, `GET /metrics` (any path), text format. The recorder is
//! installed by `telemetry::init`, before the first metric is made; the endpoint may come later or
//! never. It answers one small request per connection and trusts nobody: no input is kept.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::metric_names;

/// Histograms are folded this often, which bounds what they keep.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// One scrape, from accept to close.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request that is read, in bytes.
const REQUEST_BYTES: usize = 8 << 10;

/// From a tenth of a millisecond (a cached answer) to half a minute (the longest wait for a quorum).
const SECONDS_BUCKETS: [f64; 17] =
    [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Powers of two: sizes of batches.
const COUNT_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// An endpoint that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The address cannot be bound.
    #[error("cannot serve metrics on {address}: {source}; change `metrics` in the configuration, or leave it out")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// `telemetry::init` was not called, or another recorder was there before.
    #[error("metrics are not recorded in this process: telemetry::init must come first")]
    NotInstalled,
}

/// The running endpoint; ends when dropped.
pub struct MetricsServer {
    local_address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// The bound address, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Installs the recorder of the process. Does nothing if there is one.
pub(super) fn install(program: &'static str, name: &str) {
    let builder = PrometheusBuilder::new()
        .add_global_label("program", program)
        .add_global_label("name", name)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .and_then(|b| b.set_buckets(&COUNT_BUCKETS));
    // Fails for empty bucket lists only.
    let Ok(builder) = builder else { return };
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        let _ = HANDLE.set(handle);
        metric_names::describe();
    }
}

/// Serves this process's metrics; must be called inside a tokio runtime, after `telemetry::init`.
pub async fn serve_metrics(address: SocketAddr) -> Result<MetricsServer, TelemetryError> {
    let handle = HANDLE.get().ok_or(TelemetryError::NotInstalled)?;
    let failed = |source| TelemetryError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local_address = listener.local_addr().map_err(failed)?;
    let task = tokio::spawn(serve(listener, handle.clone()));
    tracing::info!(address = %local_address, "metrics on http://{local_address}/metrics");
    Ok(MetricsServer { local_address, task })
}

async fn serve(listener: TcpListener, handle: PrometheusHandle) {
    let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = upkeep.tick() => handle.run_upkeep(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let handle = handle.clone();
                    tokio::spawn(async move { tokio::time::timeout(SCRAPE_TIMEOUT, scrape(stream, &handle)).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "metrics endpoint cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn scrape(mut stream: TcpStream, handle: &PrometheusHandle) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = if request.starts_with(b"GET ") {
        ("200 OK", handle.render())
    } else {
        ("405 Method Not Allowed", "only GET\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

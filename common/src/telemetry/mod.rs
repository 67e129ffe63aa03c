//! Seeing: log lines on stderr, metrics for Prometheus. Nothing here may fail a request or block one.

mod logging;
pub mod metric_names;
mod prometheus;

pub use logging::init;
pub use prometheus::{MetricsServer, TelemetryError, serve_metrics};

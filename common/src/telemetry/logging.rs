//! Log lines: one per event, on stderr, with UTC time. `CAIRN_LOG` filters as `RUST_LOG` does
//! elsewhere (`info`, `debug`, `cairn_common=trace,info`); `CAIRN_LOG_FORMAT=json` makes JSON lines.
//!
//! Levels: error, somebody must act; warn, the system coped but an operator wants to know; info,
//! changes of state (start, leader, members); debug, single requests; trace, packets and entries.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::util::SubscriberInitExt;

use super::prometheus;

/// openraft warns twice for every entry that it cannot bring to a dead member: 60,000 lines a minute
/// that say what the status says.
const DEFAULT_FILTER: &str = "info,openraft::core::heartbeat=error,openraft::replication=error,\
                              openraft::engine::handler::replication_handler=error";

/// Starts logging and counting; every program calls it first. `program` and `name` go into the first
/// line and into every metric as labels. A second call in the same process changes nothing.
pub fn init(program: &'static str, name: &str) {
    let wish = std::env::var("CAIRN_LOG").unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let (filter, invalid) = match EnvFilter::try_new(&wish) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    let json = std::env::var("CAIRN_LOG_FORMAT").is_ok_and(|format| format == "json");
    // The default timer writes RFC 3339 in UTC.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_timer(SystemTime);
    let started = if json { lines.json().finish().try_init() } else { lines.with_ansi(false).finish().try_init() };
    prometheus::install(program, name);
    if started.is_ok() {
        tracing::info!(program, name, version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
        if let Some(error) = invalid {
            tracing::warn!(%error, "CAIRN_LOG={wish:?} is no valid filter; logging at info");
        }
    }
}

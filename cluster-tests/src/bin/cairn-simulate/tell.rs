//! The log of the simulated servers on standard error, with the time of the machine that speaks. It is
//! of our own because a usual one makes hash maps, and with them uses up random numbers: with the log
//! switched on, a seed would run differently.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::process;

/// Tells what is at least this important, of modules whose path begins so.
struct Teller {
    level: Level,
    prefixes: Vec<String>,
}

/// Tells from now on: `LEVEL` or `LEVEL,MODULE,MODULE…`.
pub(crate) fn tell(wanted: &str) {
    let mut parts = wanted.split(',');
    let level = parts.next().and_then(|level| level.parse().ok()).unwrap_or(Level::INFO);
    let teller = Teller { level, prefixes: parts.map(str::to_owned).collect() };
    // Only this program sets one, once.
    let _ = tracing::subscriber::set_global_default(teller);
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Teller {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let named = || self.prefixes.iter().any(|prefix| metadata.target().starts_with(prefix));
        metadata.is_event() && *metadata.level() <= self.level && (self.prefixes.is_empty() || named())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let (local, _) = process::now().unwrap_or_default();
        let (level, target) = (event.metadata().level(), event.metadata().target());
        eprintln!("{} ms, machine {}: {level} {target}:{}", local / 1_000_000, process::machine(), line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

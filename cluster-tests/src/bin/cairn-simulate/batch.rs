//! Many seeds, each in a process of its own (a crash or a hang is then one seed's), several at once.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;

use crate::planted::Planted;
use crate::report::{Report, Sum};

/// Most violations of one seed that are printed.
const SHOWN: usize = 6;

/// Which seeds, and how.
#[derive(Args)]
pub(crate) struct Batch {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed; random without it.
    #[arg(long)]
    first: Option<u64>,
    /// Seeds that run at once; as many as there are processors without it.
    #[arg(long)]
    jobs: Option<usize>,
    /// Starts no further seed after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// With this bug planted: ends at the first seed that finds it, and fails if none does.
    #[arg(long)]
    planted: Option<Planted>,
    /// Runs so many of the seeds twice and compares their traces.
    #[arg(long, default_value_t = 3)]
    twice: u64,
}

/// Prints a line.
pub(crate) fn say(line: &str) {
    // A closed pipe is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints one run.
pub(crate) fn tell_one(report: &Report) {
    let Report { seed, trace, events, operations, simulated_ms, .. } = report;
    say(&format!(
        "seed {seed}: trace {trace:016x} of {events} events, {operations} operations, {} faults, {simulated_ms} ms simulated",
        report.faults.values().sum::<u64>()
    ));
    for undecided in &report.undecided {
        say(&format!("  too hard to decide: {undecided}"));
    }
    for violation in report.violations.iter().take(SHOWN) {
        say(&format!("  VIOLATION {violation}"));
    }
}

impl Batch {
    pub(crate) fn run(&self) -> ExitCode {
        let first = self.first.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |jobs| jobs.get()));
        say(&format!("seeds {first} to {} on {jobs} processes", first + self.seeds - 1));
        let began = Instant::now();
        let mut sum = Sum::default();
        let mut traces: BTreeMap<u64, u64> = BTreeMap::new();
        let mut differing = Vec::new();
        for report in self.reports(first, jobs) {
            if let Some(before) = traces.insert(report.seed, report.trace) {
                if before != report.trace {
                    differing.push(report.seed);
                }
                continue;
            }
            if !report.violations.is_empty() {
                tell_one(&report);
            }
            sum.add(&report);
        }
        sum.lines().iter().for_each(|line| say(line));
        let seconds = began.elapsed().as_secs_f64();
        say(&format!("{} seeds in {seconds:.1} s, {:.2} seeds a second", sum.runs, sum.runs as f64 / seconds));
        if !differing.is_empty() {
            say(&format!("DIFFERENT TRACES of the same seed: {differing:?}"));
        }
        sum.failed.sort_unstable();
        let failed = sum.failed.len();
        match self.planted {
            Some(planted) if failed > 0 => {
                say(&format!("{planted:?}: found by seed {} after {} seeds", sum.failed[0], sum.runs));
                ExitCode::SUCCESS
            }
            Some(planted) => {
                say(&format!("{planted:?}: NOT FOUND in {} seeds", sum.runs));
                ExitCode::FAILURE
            }
            None if failed == 0 && differing.is_empty() => {
                say("no violation");
                ExitCode::SUCCESS
            }
            None => {
                say(&format!("{failed} seeds with violations: {:?}", sum.failed));
                say("again, event by event: cairn-simulate replay SEED --tell");
                ExitCode::FAILURE
            }
        }
    }

    /// Runs the seeds; reports come as they end.
    fn reports(&self, first: u64, jobs: usize) -> Receiver<Report> {
        let twice = if self.planted.is_some() { 0 } else { self.twice.min(self.seeds) };
        let mut seeds: Vec<u64> = (first..first + twice).chain(first..first + self.seeds).collect();
        seeds.reverse();
        let seeds = Arc::new(Mutex::new(seeds));
        let (reports, received) = channel();
        let deadline = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let planted = self.planted;
        for _ in 0..jobs {
            let (seeds, reports) = (seeds.clone(), reports.clone());
            std::thread::spawn(move || {
                loop {
                    if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                        return;
                    }
                    let Some(seed) = seeds.lock().ok().and_then(|mut seeds| seeds.pop()) else { return };
                    let report = run_one(seed, planted);
                    let found = planted.is_some() && !report.violations.is_empty();
                    if reports.send(report).is_err() {
                        return;
                    }
                    if found && let Ok(mut seeds) = seeds.lock() {
                        seeds.clear();
                    }
                }
            });
        }
        received
    }
}

/// One seed in a process of its own.
fn run_one(seed: u64, planted: Option<Planted>) -> Report {
    let broken = |reason: String| Report { seed, violations: vec![reason], ..Report::default() };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return broken(format!("this program cannot be found: {error}")),
    };
    let mut command = Command::new(program);
    command.args(["replay", "--json", &seed.to_string()]).stdin(Stdio::null()).stderr(Stdio::piped());
    if let Some(planted) = planted {
        let name = clap::ValueEnum::to_possible_value(&planted).map(|value| value.get_name().to_owned());
        command.arg("--planted").args(name);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return broken(format!("the process cannot be started: {error}")),
    };
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        broken(format!("the process ended with {}: {}", output.status, last.join(" | ")))
    })
}

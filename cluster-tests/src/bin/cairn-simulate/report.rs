//! What a run reports, as one line of JSON from the process that ran it to the one that counts; and the
//! sum of many, for people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// Hash of the trace of events, and how many.
    pub(crate) trace: u64,
    pub(crate) events: u64,
    pub(crate) simulated_ms: u64,
    pub(crate) ticks: u64,
    pub(crate) operations: u64,
    pub(crate) calls: BTreeMap<String, u64>,
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) messages: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) overtaken: u64,
    /// Steps of the search for an order of the operations.
    pub(crate) search_steps: u64,
    /// Objects whose search was given up.
    pub(crate) undecided: Vec<String>,
    pub(crate) violations: Vec<String>,
}

/// The sum of many runs.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) runs: u64,
    pub(crate) failed: Vec<u64>,
    operations: Vec<u64>,
    fault_counts: Vec<u64>,
    fault_kinds: Vec<u64>,
    calls: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    messages: [u64; 4],
    simulated_ms: u64,
    undecided: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, report: &Report) {
        self.runs += 1;
        if !report.violations.is_empty() {
            self.failed.push(report.seed);
        }
        self.operations.push(report.operations);
        self.fault_counts.push(report.faults.values().sum());
        self.fault_kinds.push(report.faults.len() as u64);
        report.calls.iter().for_each(|(kind, count)| *self.calls.entry(kind.clone()).or_default() += count);
        report.faults.iter().for_each(|(kind, count)| *self.faults.entry(kind.clone()).or_default() += count);
        let counts = [report.messages, report.lost, report.doubled, report.overtaken];
        self.messages.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        self.simulated_ms += report.simulated_ms;
        self.undecided += report.undecided.len() as u64;
    }

    /// The distributions, a line each.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let counted = |kinds: &BTreeMap<String, u64>| {
            kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
        };
        let [messages, lost, doubled, overtaken] = self.messages;
        vec![
            format!("operations a seed: {}", spread(&mut self.operations)),
            format!("operations: {}", counted(&self.calls)),
            format!(
                "faults a seed: {}; kinds a seed: {}",
                spread(&mut self.fault_counts),
                spread(&mut self.fault_kinds)
            ),
            format!("faults: {}", counted(&self.faults)),
            format!("messages: {messages}, of them lost {lost}, doubled {doubled}, overtaken {overtaken}"),
            format!("simulated time: {} s", self.simulated_ms / 1000),
            format!("histories that were too hard to decide: {}", self.undecided),
        ]
    }
}

fn spread(values: &mut [u64]) -> String {
    values.sort_unstable();
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return "none".to_owned() };
    format!("least {least}, median {}, most {most}", values[values.len() / 2])
}

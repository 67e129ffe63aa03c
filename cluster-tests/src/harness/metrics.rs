//! What a program of a cluster counts, read from its Prometheus endpoint.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::cluster::DevCluster;

/// Longest wait for the endpoint.
const BOUND: Duration = Duration::from_secs(10);

impl DevCluster {
    /// Sum of a counter over all its series whose labels contain `label`; 0 if there is none.
    ///
    /// # Panics
    /// If the program has no endpoint, or does not answer.
    pub fn counter(&self, program: &str, metric: &str, label: &str) -> f64 {
        let text = std::fs::read_to_string(self.config(program)).expect("configuration");
        let config: toml::Table = text.parse().expect("configuration is TOML");
        let address = config["metrics"].as_str().expect("the program has an endpoint");
        let mut stream = TcpStream::connect(address).expect("the endpoint listens");
        stream.set_read_timeout(Some(BOUND)).expect("a timeout can be set");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answer");
        let series = answer.lines().filter(|line| line.starts_with(metric) && line.contains(label));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

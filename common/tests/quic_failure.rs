//! Servers that are not there, die, hang and come back: callers learn it fast and go on soon.

#![allow(clippy::print_stdout, reason = "the server process tells its address")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_common::config::IdentityFiles;
use cairn_common::identity::Identity;
use cairn_common::protocol::{Role, Service};
use cairn_common::transport::quic::QuicServer;
use cairn_common::transport::{Transport, TransportError};
use support::{Cluster, Echo, call, local};

const FILES: &str = "CAIRN_TEST_SERVER_FILES";
const PORT: &str = "CAIRN_TEST_SERVER_PORT";

/// Not a test: the server process that the tests below start and kill.
#[test]
fn server_process() {
    let Ok(folder) = std::env::var(FILES) else { return };
    let files = files(Path::new(&folder));
    let port = std::env::var(PORT).unwrap().parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let identity = Identity::load(&files).unwrap();
        let server = QuicServer::serve(local(port), &identity, Arc::new(Echo::default())).unwrap();
        println!("\nserving {}", server.local_address());
        // Bounded, in case the test that started it dies.
        tokio::time::sleep(Duration::from_secs(30)).await;
    });
}

fn files(folder: &Path) -> IdentityFiles {
    IdentityFiles { ca: folder.join("ca.pem"), certificate: folder.join("server.pem"), key: folder.join("server.key") }
}

struct ServerProcess(Child, SocketAddr);

impl ServerProcess {
    fn start(cluster: &Cluster, port: u16) -> Self {
        cluster.authority.issue_into(cluster.folder.path(), Role::Metadata, "server").unwrap();
        Self::start_again(cluster, port)
    }

    fn start_again(cluster: &Cluster, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture"])
            .env(FILES, cluster.folder.path())
            .env(PORT, port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("serving ").map(|address| address.parse().unwrap()))
            .expect("the server process serves");
        Self(child, address)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.0.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        // Stopping takes effect a little later; until then the process answers.
        let stopped = || {
            let status = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
            status.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        };
        while signal == rustix::process::Signal::STOP && !stopped() {
            std::thread::yield_now();
        }
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_calls_fail_at_once() {
    let cluster = Cluster::new();
    let transport = cluster.transport(Role::Mount);
    let free = UdpSocket::bind(local(0)).unwrap().local_addr().unwrap();
    for _ in 0..20 {
        let started = Instant::now();
        let error = transport.call(free, call(Service::Metadata, "", vec![])).await.unwrap_err();
        assert!(
            matches!(&error, TransportError::Unreachable { reason, .. } if reason.contains("nobody listens")),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_millis(300), "{:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_address_fails_within_the_connect_timeout_and_then_at_once() {
    let cluster = Cluster::new();
    let transport = Arc::new(cluster.transport(Role::Mount));
    // Takes packets and says nothing, as a stopped server or a black hole does.
    let silent = UdpSocket::bind(local(0)).unwrap();
    let address = silent.local_addr().unwrap();
    let started = Instant::now();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let transport = transport.clone();
            tokio::spawn(async move { transport.call(address, call(Service::Metadata, "", vec![])).await })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(
            matches!(&error, TransportError::Unreachable { reason, .. } if reason.contains("handshake")),
            "{error}"
        );
    }
    assert!(started.elapsed() < Duration::from_millis(1500), "one attempt was shared: {:?}", started.elapsed());
    let again = Instant::now();
    transport.call(address, call(Service::Metadata, "", vec![])).await.unwrap_err();
    assert!(again.elapsed() < Duration::from_millis(50), "{:?}", again.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_fails_fast_and_a_restarted_one_serves_at_once() {
    let cluster = Cluster::new();
    let transport = Arc::new(cluster.transport(Role::Mount));
    let mut server = ServerProcess::start(&cluster, 0);
    let address = server.1;
    transport.call(address, call(Service::Metadata, "one", vec![])).await.unwrap();

    // A request is under way when the server dies.
    let waiting = {
        let transport = transport.clone();
        tokio::spawn(async move { transport.call(address, call(Service::Metadata, "sleep:20000", vec![])).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.kill();
    let killed = Instant::now();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, TransportError::NoAnswer { .. }), "{error}");
    assert!(killed.elapsed() < Duration::from_millis(1000), "noticed after {:?}", killed.elapsed());

    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let started = Instant::now();
        let error = transport.call(address, call(Service::Metadata, "", vec![])).await.unwrap_err();
        assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
        slowest = slowest.max(started.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(slowest < Duration::from_millis(300), "{slowest:?}");

    let _server = ServerProcess::start_again(&cluster, address.port());
    let restarted = Instant::now();
    while transport.call(address, call(Service::Metadata, "two", vec![])).await.is_err() {
        assert!(restarted.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_restarted_between_two_requests_costs_at_most_one_of_them() {
    let cluster = Cluster::new();
    let transport = cluster.transport(Role::Mount);
    let mut server = ServerProcess::start(&cluster, 0);
    let address = server.1;
    transport.call(address, call(Service::Metadata, "one", vec![])).await.unwrap();
    // The next server takes the port so soon that nothing tells the client of the gap: it learns of
    // it from a stateless reset, which it believes because the identity is the same.
    let identity = Identity::load(&files(cluster.folder.path())).unwrap();
    server.kill();
    let _server = QuicServer::serve(address, &identity, Arc::new(Echo::default())).unwrap();
    let started = Instant::now();
    let mut failures = 0;
    while let Err(error) = transport.call(address, call(Service::Metadata, "two", vec![])).await {
        failures += 1;
        assert!(started.elapsed() < Duration::from_secs(2), "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(started.elapsed() < Duration::from_millis(500), "{:?} after {failures} failures", started.elapsed());
    assert!(failures <= 1, "{failures} requests failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_noticed_by_its_silence() {
    let cluster = Cluster::new();
    let transport = cluster.transport(Role::Mount);
    let server = ServerProcess::start(&cluster, 0);
    transport.call(server.1, call(Service::Metadata, "one", vec![])).await.unwrap();
    server.signal(rustix::process::Signal::STOP);
    let stopped = Instant::now();
    let mut patient = call(Service::Metadata, "two", vec![]);
    patient.timeout = Duration::from_secs(8);
    let error = transport.call(server.1, patient).await.unwrap_err();
    assert!(matches!(&error, TransportError::NoAnswer { reason, .. } if reason.contains("silent")), "{error}");
    assert!(stopped.elapsed() < Duration::from_secs(4), "{:?}", stopped.elapsed());
    server.signal(rustix::process::Signal::CONT);
    let woken = Instant::now();
    while transport.call(server.1, call(Service::Metadata, "three", vec![])).await.is_err() {
        assert!(woken.elapsed() < Duration::from_secs(3));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! The UDP socket below an endpoint: large buffers, batches that Linux really sends, and, on a
//! client's connected socket, notice of "port unreachable", so that a killed server is noticed in a
//! round trip instead of an idle timeout. It decides nothing: the link that owns the socket does.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::sync::Notify;

use super::tuning::Tuning;

/// A UDP socket for quinn.
pub(super) struct TunedSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    max_segments: usize,
    receive_segments: usize,
    unreachable: Arc<Notify>,
}

impl TunedSocket {
    /// A server's socket.
    pub(super) fn bind(address: SocketAddr, tuning: &Tuning) -> io::Result<Arc<Self>> {
        let socket = open(address, tuning)?;
        socket.bind(&address.into())?;
        Self::wrap(socket, tuning)
    }

    /// A client's socket, which receives from `server` only and learns when its port is closed.
    pub(super) fn connect(server: SocketAddr, tuning: &Tuning) -> io::Result<Arc<Self>> {
        let socket = open(server, tuning)?;
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        socket.bind(&any.into())?;
        socket.connect(&server.into())?;
        Self::wrap(socket, tuning)
    }

    fn wrap(socket: Socket, tuning: &Tuning) -> io::Result<Arc<Self>> {
        let socket: std::net::UdpSocket = socket.into();
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        // quinn sizes its receive buffers by this.
        let receive_segments = tuning.receive_segments().min(state.gro_segments());
        Ok(Arc::new(Self {
            io: tokio::net::UdpSocket::from_std(socket)?,
            state,
            max_segments: tuning.max_segments(),
            receive_segments,
            unreachable: Arc::new(Notify::new()),
        }))
    }

    /// Notified (with a permit kept) when the peer's machine says that nobody listens.
    pub(super) fn unreachable(&self) -> Arc<Notify> {
        self.unreachable.clone()
    }

    fn note(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.unreachable.notify_one();
        }
    }
}

/// Bytes of receive buffer that a socket of this process gets, of those wished for.
pub(super) fn granted_buffer_bytes(tuning: &Tuning) -> io::Result<usize> {
    let socket = open((Ipv4Addr::LOCALHOST, 0).into(), tuning)?;
    // Linux doubles the size for its own bookkeeping, and reports that.
    Ok(socket.recv_buffer_size()? / 2)
}

fn open(address: SocketAddr, tuning: &Tuning) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Beyond net.core.[rw]mem_max only root may go; the kernel cuts what others ask for.
    let bytes = tuning.socket_buffer_bytes;
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, bytes).is_err() {
        socket.set_recv_buffer_size(bytes)?;
    }
    if rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, bytes).is_err() {
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(socket)
}

impl AsyncUdpSocket for TunedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || match self.state.try_send((&self.io).into(), transmit) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            Err(e) => {
                // The packet is lost, which QUIC repairs. EMSGSIZE answers a probe of the MTU.
                self.note(&e);
                tracing::trace!(destination = %transmit.destination, error = %e, "UDP send failed");
                Ok(())
            }
            Ok(()) => Ok(()),
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            match self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta)) {
                Ok(received) => return Poll::Ready(Ok(received)),
                // An error of the socket is one packet's fate, never the endpoint's end.
                Err(e) => self.note(&e),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments().min(self.max_segments)
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

impl fmt::Debug for TunedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunedSocket").field("io", &self.io).finish_non_exhaustive()
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the socket takes packets again; each waiting task has its own.
struct Poller {
    socket: Arc<TunedSocket>,
    waiting: Option<Writable>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.clone();
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { socket.io.writable().await }));
        let result = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

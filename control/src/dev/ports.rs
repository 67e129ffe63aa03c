//! Free ports on loopback for a new cluster: chosen at random below the range that the kernel hands
//! out, so that neither another stopped cluster nor a passing client socket is likely to have them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::error::ControlError;

const LOW: u16 = 10_000;
const HIGH: u16 = 32_000;

/// That many different addresses on 127.0.0.1 where neither UDP nor TCP is in use now.
pub(crate) fn free_addresses(wanted: usize) -> Result<Vec<SocketAddr>, ControlError> {
    let mut found: Vec<SocketAddr> = Vec::with_capacity(wanted);
    for _ in 0..wanted * 200 {
        if found.len() == wanted {
            break;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, random_port()));
        if !found.contains(&address) && UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            found.push(address);
        }
    }
    if found.len() == wanted { Ok(found) } else { Err(ControlError::NoPorts { wanted, low: LOW, high: HIGH }) }
}

/// A version 4 UUID is random but for six fixed bits; the low bits are random.
fn random_port() -> u16 {
    LOW + (uuid::Uuid::new_v4().as_u128() % u128::from(HIGH - LOW)) as u16
}

//! Addresses on loopback for a new cluster. Each cluster has an address of its own in 127.0.0.0/8 (Linux
//! has all of them): a cluster that is down must find its ports free when it comes up again, and on
//! one shared address another cluster may have taken one meanwhile. Ports are chosen at random below
//! the range that the kernel hands out, because a program may listen on all addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::error::ControlError;

const LOW: u16 = 10_000;
const HIGH: u16 = 32_000;

/// A loopback address that hardly any other cluster has: one of 4 million.
pub(crate) fn random_host() -> IpAddr {
    let [a, b, c, ..] = random().to_le_bytes();
    // 127.64/10 keeps clear of 127.0.0.1 and of what resolvers listen on; the last byte is a host's.
    IpAddr::V4(Ipv4Addr::new(127, 64 | (a & 63), b, c.clamp(1, 254)))
}

/// That many different addresses on `host` where neither UDP nor TCP is in use now, and which are not
/// among the `promised`: what those are for may not have started yet.
pub(crate) fn free_addresses(
    host: IpAddr,
    wanted: usize,
    promised: &[SocketAddr],
) -> Result<Vec<SocketAddr>, ControlError> {
    let mut found: Vec<SocketAddr> = Vec::with_capacity(wanted);
    for _ in 0..wanted * 200 {
        if found.len() == wanted {
            break;
        }
        let port = LOW + (random() % u128::from(HIGH - LOW)) as u16;
        let address = SocketAddr::from((host, port));
        let given = found.contains(&address) || promised.contains(&address);
        if !given && UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            found.push(address);
        }
    }
    if found.len() == wanted { Ok(found) } else { Err(ControlError::NoPorts { host, wanted, low: LOW, high: HIGH }) }
}

/// A version 4 UUID is random but for six fixed bits; the low bytes are random.
fn random() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_not_given_again() {
        let host = random_host();
        let all: Vec<_> = (LOW..HIGH).map(|port| SocketAddr::from((host, port))).collect();
        let (free, promised) = all.split_first().unwrap();
        assert!(free_addresses(host, 1, &all).is_err());
        // One port of 22,000: found now and then, and never another.
        let found = (0..200).find_map(|_| free_addresses(host, 1, promised).ok());
        assert!(found.is_none_or(|found| found == [*free]));
    }
}

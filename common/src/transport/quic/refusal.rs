//! Why a connection failed, in words that say what to do. Certificates that do not fit show up as
//! TLS alerts (RFC 8446, section 6): 0x100 plus the alert in QUIC's error codes. In TLS 1.3 a server's
//! refusal of the client's certificate arrives after the client believes to be connected.

use quinn::ConnectionError;

/// What a broken connection means to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Certificates do not fit: retrying does not help.
    Identity(String),
    /// Anything else.
    Broken(String),
}

const CRYPTO: std::ops::Range<u64> = 0x100..0x200;

/// Explains a connection's end.
pub(super) fn explain(error: &ConnectionError) -> Refusal {
    match error {
        // Found by this side.
        ConnectionError::TransportError(e) if CRYPTO.contains(&u64::from(e.code)) => {
            Refusal::Identity(local(u64::from(e.code) - CRYPTO.start, &e.reason))
        }
        // Found by the other side.
        ConnectionError::ConnectionClosed(close) if CRYPTO.contains(&u64::from(close.error_code)) => {
            let text = String::from_utf8_lossy(&close.reason);
            Refusal::Identity(remote(u64::from(close.error_code) - CRYPTO.start, &text))
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == super::CLOSE_NOBODY => {
            Refusal::Identity(format!("it says: {}", String::from_utf8_lossy(&close.reason)))
        }
        ConnectionError::ApplicationClosed(close) => {
            Refusal::Broken(format!("it closed the connection: {}", String::from_utf8_lossy(&close.reason)))
        }
        ConnectionError::Reset => Refusal::Broken("it was restarted and no longer knows the connection".to_owned()),
        ConnectionError::TimedOut => Refusal::Broken("it is silent".to_owned()),
        other => Refusal::Broken(other.to_string()),
    }
}

const ANOTHER_CLUSTER: &str = "its certificate is of another cluster's authority; \
    check the address, and that `ca` of [identity] is this cluster's";

fn local(alert: u64, text: &str) -> String {
    let advice = if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        ANOTHER_CLUSTER
    } else if text.contains("not valid for name") || text.contains("NotValidForName") {
        "its certificate is of another role or cluster; check that the address is a server of the wanted kind"
    } else if text.contains("expired") || text.contains("Expired") || alert == 45 {
        "its certificate has expired or the clocks differ; issue a new one with cairnctl, or set the clocks"
    } else if text.contains("NotValidYet") || text.contains("not valid yet") {
        "its certificate is not valid yet; set the clocks"
    } else if text.contains("sent no certificates") || alert == 116 {
        "it showed no certificate; give it one of this cluster ([identity] of its configuration)"
    } else if alert == 120 {
        "it speaks no common wire version; upgrade the older of the two programs"
    } else {
        return format!("TLS failed: {text}");
    };
    format!("{advice} ({text})")
}

fn remote(alert: u64, text: &str) -> String {
    let advice = match alert {
        48 => {
            "it does not know the authority of this process's certificate: this certificate is of another cluster; \
             use one that this cluster issued (cairnctl)"
        }
        116 => "it demands a certificate and this process showed none; set [identity] in the configuration",
        45 => {
            "this process's certificate has expired, or the clocks differ; issue a new one with cairnctl, or set the clocks"
        }
        42 | 43 | 46 | 51 => "it does not accept this process's certificate; issue a new one with cairnctl",
        120 => "it speaks no common wire version; upgrade the older of the two programs",
        _ => "TLS failed",
    };
    format!("{advice} (alert {alert}{}{text})", if text.is_empty() { "" } else { ": " })
}

//! The key of stateless resets (RFC 9000, section 10.3), made of the server's identity so that it
//! outlives the process: a server that was killed and started again answers packets of connections
//! that it no longer knows with a reset that the client believes, and the client reconnects at once
//! instead of waiting for its idle timeout. BLAKE3 keyed hash as the MAC. For the same reason
//! connection ids are plain random numbers: quinn's own are signed with a key of one life, and the
//! next one would ignore packets that carry them.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator};

struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // `blake3::Hash` compares in constant time.
        let signature: [u8; blake3::OUT_LEN] = signature.try_into().map_err(|_| CryptoError)?;
        if blake3::keyed_hash(&self.0, data) == signature { Ok(()) } else { Err(CryptoError) }
    }
}

/// A key of a secret that the server has in every life.
pub(super) fn reset_key(secret: [u8; 32]) -> Arc<dyn HmacKey> {
    Arc::new(ResetKey(secret))
}

/// Size of a connection id, in bytes: no collisions among any number of connections of one server.
const CONNECTION_ID_BYTES: usize = 8;

/// Makes random connection ids.
pub(super) struct RandomConnectionIds;

impl ConnectionIdGenerator for RandomConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; CONNECTION_ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

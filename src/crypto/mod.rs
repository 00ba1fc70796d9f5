//! Keys, ids and sealing. Knows no path and no format; `docs/format.md` section 2 is the source of every formula here.

mod aead;
mod kdf;
mod keys;

use crate::base::ObjectHash;

pub use aead::{OpenError, PackCipher, PackNonce, SealKey, SealNonce, TAG_LEN};
pub use kdf::{KdfError, KdfParams, KdfParamsError};
pub use keys::{ProjectKeys, RepositoryKeys, Secret};

/// The system could not give random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct RandomError(#[source] getrandom::Error);

/// `N` bytes from the system's generator.
pub fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}

/// `H(parts joined)`: BLAKE3, 32 bytes.
#[must_use]
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Returns the BLAKE3 hash of an object's stored bytes, which is its name.
#[must_use]
pub fn object_hash(parts: &[&[u8]]) -> ObjectHash {
    ObjectHash::from_bytes(hash(parts))
}

/// Whether two byte strings are the same, in time that does not depend on where they differ.
#[must_use]
pub fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    blake3::Hash::from_bytes(*a) == blake3::Hash::from_bytes(*b)
}

//! Hashes without a key, and comparison in constant time.

use crate::base::ObjectHash;

/// Returns `H(parts joined)`: BLAKE3, 32 bytes.
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

/// Returns whether two byte strings are equal, in time that does not depend on their content.
#[must_use]
pub fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    blake3::Hash::from_bytes(*a) == blake3::Hash::from_bytes(*b)
}

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

/// Returns the BLAKE3 hash of an object's stored bytes, by which most objects are named.
#[must_use]
pub fn object_hash(parts: &[&[u8]]) -> ObjectHash {
    ObjectHash::from_bytes(hash(parts))
}

/// Hashes an object's bytes part by part.
#[derive(Default)]
pub struct ObjectHasher(blake3::Hasher);

impl ObjectHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns `H(all bytes so far)`.
    #[must_use]
    pub fn so_far(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }

    /// Returns the hash of all bytes so far, as the name of the object that consists of them.
    #[must_use]
    pub fn name(&self) -> ObjectHash {
        ObjectHash::from_bytes(self.so_far())
    }
}

/// Returns whether two strings of 32 bytes are equal, in time that does not depend on the bytes.
#[must_use]
pub fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    blake3::Hash::from_bytes(*a) == blake3::Hash::from_bytes(*b)
}

//! Secret keys, and how one derives from another.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::random::{RandomError, random};

/// 32 secret bytes: a secret of the repository or of a project, or a key. They are wiped from
/// memory when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Makes a secret of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes a random secret.
    pub fn random() -> Result<Self, RandomError> {
        random().map(Self)
    }

    /// Returns the bytes. They must only be sealed, or used as a key or a seed.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives another secret. `label` is the whole context string of BLAKE3's `derive_key`, such
    /// as `cuttlebone 2026-11-21 data`.
    #[must_use]
    pub fn derive(&self, label: &str) -> Self {
        Self(blake3::derive_key(label, &self.0))
    }
}

//! The keys that derive from a repository's secret.

use super::aead::SealKey;
use super::secret::Secret;

/// The keys that derive from a repository's secret.
pub struct RepositoryKeys {
    file: Secret,
    wrap: SealKey,
    slot_info: SealKey,
}

impl RepositoryKeys {
    /// Derives the keys from the repository's secret.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let seal_key = |label| SealKey::new(&secret.derive(label));
        Self {
            file: secret.derive("cuttlebone 2026-11-21 repository file"),
            wrap: seal_key("cuttlebone 2026-11-21 project wrap"),
            slot_info: seal_key("cuttlebone 2026-11-21 slot info"),
        }
    }

    /// Returns the MAC of the repository file's fields.
    #[must_use]
    pub fn file_mac(&self, fields: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(self.file.expose(), fields).as_bytes()
    }

    /// Returns the key that seals the secrets of projects.
    #[must_use]
    pub fn project_wrap(&self) -> &SealKey {
        &self.wrap
    }

    /// Returns the key that seals the info of the repository's key slots.
    #[must_use]
    pub fn slot_info(&self) -> &SealKey {
        &self.slot_info
    }
}

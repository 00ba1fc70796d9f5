//! The key tree: two kinds of secret, and the keys that are derived from them.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::aead::{PackCipher, PackNonce, SealKey};
use super::random::{RandomError, random};
use crate::base::{BlobId, Root};

/// 32 secret bytes: a repository's or a project's secret, or the key that opens a slot.
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

    /// Returns the bytes, to be sealed and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the secret as a key that seals other secrets: used for keys that are derived from a
    /// password.
    #[must_use]
    pub fn seal_key(&self) -> SealKey {
        SealKey::new(&self.0)
    }

    /// Returns the key that seals the info of the slots that hold this secret.
    #[must_use]
    pub fn slot_info_key(&self) -> SealKey {
        self.derive("cuttlebone 2026-11-21 slot info").seal_key()
    }

    fn derive(&self, label: &str) -> Self {
        Self(blake3::derive_key(label, &self.0))
    }
}

/// The keys that are derived from a repository's secret.
pub struct RepositoryKeys {
    file: Secret,
    wrap: SealKey,
}

impl RepositoryKeys {
    /// Derives the keys.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self {
            file: secret.derive("cuttlebone 2026-11-21 repository file"),
            wrap: secret
                .derive("cuttlebone 2026-11-21 project wrap")
                .seal_key(),
        }
    }

    /// Returns the MAC of the repository file's fields.
    #[must_use]
    pub fn file_mac(&self, fields: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.file.0, fields).as_bytes()
    }

    /// Returns the key that seals the secrets of projects.
    #[must_use]
    pub fn project_wrap(&self) -> &SealKey {
        &self.wrap
    }
}

/// The keys that are derived from a project's secret.
pub struct ProjectKeys {
    chunk_id: Secret,
    node_id: Secret,
    root: Secret,
    pack: Secret,
    object: SealKey,
    cuts: u64,
}

impl ProjectKeys {
    /// Derives the keys.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let cuts = secret.derive("cuttlebone 2026-11-21 stream cuts");
        let mut seed = [0; 8];
        seed.copy_from_slice(&cuts.0[..8]);
        Self {
            chunk_id: secret.derive("cuttlebone 2026-11-21 chunk id"),
            node_id: secret.derive("cuttlebone 2026-11-21 node id"),
            root: secret.derive("cuttlebone 2026-11-21 root"),
            pack: secret.derive("cuttlebone 2026-11-21 pack"),
            object: secret.derive("cuttlebone 2026-11-21 object").seal_key(),
            cuts: u64::from_le_bytes(seed),
        }
    }

    /// Returns the id of a chunk's plain bytes.
    #[must_use]
    pub fn chunk_id(&self, plain: &[u8]) -> BlobId {
        keyed(&self.chunk_id, plain)
    }

    /// Returns the id of a tree node's plain bytes.
    #[must_use]
    pub fn node_id(&self, plain: &[u8]) -> BlobId {
        keyed(&self.node_id, plain)
    }

    /// Returns the root of a content with this description.
    #[must_use]
    pub fn root(&self, description: &[u8]) -> Root {
        Root::from_bytes(*blake3::keyed_hash(&self.root.0, description).as_bytes())
    }

    /// Returns the cipher of the pack with this nonce.
    #[must_use]
    pub fn pack_cipher(&self, nonce: PackNonce) -> PackCipher {
        PackCipher::new(&self.pack.0, nonce)
    }

    /// Returns the key that seals all objects other than packs, such as index segments and records.
    #[must_use]
    pub fn object(&self) -> &SealKey {
        &self.object
    }

    /// Returns the seed that makes the cuts of streams private to the project.
    #[must_use]
    pub fn cut_seed(&self) -> u64 {
        self.cuts
    }
}

fn keyed(key: &Secret, plain: &[u8]) -> BlobId {
    BlobId::from_bytes(*blake3::keyed_hash(&key.0, plain).as_bytes())
}

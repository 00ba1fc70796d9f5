//! The key tree: two kinds of secret, and what is derived from them.

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
    /// Wraps the bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh one.
    pub fn random() -> Result<Self, RandomError> {
        random().map(Self)
    }

    /// Its bytes: only to be sealed.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// As a key that seals other secrets: for the key out of a password.
    #[must_use]
    pub fn seal_key(&self) -> SealKey {
        SealKey::new(&self.0)
    }

    /// What seals the info of the slots that open this secret.
    #[must_use]
    pub fn slot_info_key(&self) -> SealKey {
        self.derive("cuttlebone 2026-11-21 slot info").seal_key()
    }

    fn derive(&self, label: &str) -> Self {
        Self(blake3::derive_key(label, &self.0))
    }
}

/// What a repository's secret gives.
pub struct RepositoryKeys {
    file: Secret,
    wrap: SealKey,
}

impl RepositoryKeys {
    /// Derives them.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self {
            file: secret.derive("cuttlebone 2026-11-21 repository file"),
            wrap: secret
                .derive("cuttlebone 2026-11-21 project wrap")
                .seal_key(),
        }
    }

    /// The MAC of the repository file's fields.
    #[must_use]
    pub fn file_mac(&self, fields: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.file.0, fields).as_bytes()
    }

    /// What seals the projects' secrets.
    #[must_use]
    pub fn project_wrap(&self) -> &SealKey {
        &self.wrap
    }
}

/// What a project's secret gives.
pub struct ProjectKeys {
    chunk_id: Secret,
    node_id: Secret,
    root: Secret,
    pack: Secret,
    object: SealKey,
    cuts: u64,
}

impl ProjectKeys {
    /// Derives them.
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

    /// The id of a chunk's plain bytes.
    #[must_use]
    pub fn chunk_id(&self, plain: &[u8]) -> BlobId {
        keyed(&self.chunk_id, plain)
    }

    /// The id of a tree node's plain bytes.
    #[must_use]
    pub fn node_id(&self, plain: &[u8]) -> BlobId {
        keyed(&self.node_id, plain)
    }

    /// The root over a content's description.
    #[must_use]
    pub fn root(&self, description: &[u8]) -> Root {
        Root::from_bytes(*blake3::keyed_hash(&self.root.0, description).as_bytes())
    }

    /// What seals and opens the blobs of the pack with this nonce.
    #[must_use]
    pub fn pack_cipher(&self, nonce: PackNonce) -> PackCipher {
        PackCipher::new(&self.pack.0, nonce)
    }

    /// What seals index segments, records and the project's settings.
    #[must_use]
    pub fn object(&self) -> &SealKey {
        &self.object
    }

    /// The seed that makes the cuts of streams private to the project.
    #[must_use]
    pub fn cut_seed(&self) -> u64 {
        self.cuts
    }
}

fn keyed(key: &Secret, plain: &[u8]) -> BlobId {
    BlobId::from_bytes(*blake3::keyed_hash(&key.0, plain).as_bytes())
}

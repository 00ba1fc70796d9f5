//! The keys of a project that a role holds.
//!
//! ```text
//! P  project secret                       full
//! ├─ M  metadata: objects, contents of packs, trees, node ids, roots, info of slots
//! │                                       full, write, verify
//! ├─ C  chunk ids, stream cuts            full, write
//! ├─ D  data: packs, private key          full; a write key holds the public key
//! └─ S  signing                           full; others hold the public key
//! ```

use super::aead::SealKey;
use super::kem::{DataPrivateKey, DataPublicKey};
use super::secret::Secret;
use super::sign::SigningKey;
use crate::base::{BlobId, Role, Root, SignerId};

/// The keys of a project that a role holds.
pub struct ProjectKeys {
    metadata: MetadataKeys,
    chunks: Option<ChunkKeys>,
    data: DataKeys,
    /// Signs the objects that this client writes.
    signing: SigningKey,
    /// The public key of the project, which verifies the signatures of full keys.
    authority: SignerId,
}

/// The keys that derive from M: all roles hold them.
struct MetadataKeys {
    secret: Secret,
    object: SealKey,
    contents: SealKey,
    tree: Secret,
    node_id: Secret,
    root: Secret,
    slot_info: SealKey,
}

/// The keys that derive from the secret C: they name chunks and cut streams.
pub struct ChunkKeys {
    secret: Secret,
    id: Secret,
    cuts: u64,
}

/// The keys of a project's data that a role holds.
enum DataKeys {
    /// Opens and seals all data.
    Full {
        key: Secret,
        private: Box<DataPrivateKey>,
        public: Box<DataPublicKey>,
    },
    /// Seals data, but cannot open it.
    Write(Box<DataPublicKey>),
    /// Neither opens nor seals data.
    Verify,
}

/// The role of a key does not permit an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key with the role “{held}” may not do that; a key with the role “{needed}” may")]
pub struct RoleError {
    /// The role of the key that was used.
    pub held: Role,
    /// A role that permits the action.
    pub needed: Role,
}

/// The secrets in the slot of a write key.
pub struct WriteSecrets {
    /// The secret M, from which the keys of the metadata derive.
    pub metadata: Secret,
    /// The secret C, from which the keys of chunk ids and stream cuts derive.
    pub chunks: Secret,
    /// The public key of the project's data.
    pub data: DataPublicKey,
    /// The public key of the project, which verifies the signatures of full keys.
    pub authority: SignerId,
    /// The seed of the signing key of this write key.
    pub seed: Secret,
}

/// The secrets in the slot of a verify key.
pub struct VerifySecrets {
    /// The secret M, from which the keys of the metadata derive.
    pub metadata: Secret,
    /// The public key of the project, which verifies the signatures of full keys.
    pub authority: SignerId,
    /// The seed of the signing key of this verify key.
    pub seed: Secret,
}

impl MetadataKeys {
    fn new(secret: Secret) -> Self {
        let seal_key = |label| SealKey::new(&secret.derive(label));
        Self {
            object: seal_key("cuttlebone 2026-11-21 object"),
            contents: seal_key("cuttlebone 2026-11-21 contents"),
            tree: secret.derive("cuttlebone 2026-11-21 tree"),
            node_id: secret.derive("cuttlebone 2026-11-21 node id"),
            root: secret.derive("cuttlebone 2026-11-21 root"),
            slot_info: seal_key("cuttlebone 2026-11-21 slot info"),
            secret,
        }
    }
}

impl ChunkKeys {
    fn new(secret: Secret) -> Self {
        let cuts = secret.derive("cuttlebone 2026-11-21 stream cuts");
        let mut seed = [0; 8];
        seed.copy_from_slice(&cuts.expose()[..8]);
        Self {
            id: secret.derive("cuttlebone 2026-11-21 chunk id"),
            cuts: u64::from_le_bytes(seed),
            secret,
        }
    }

    /// Returns the id of a chunk's plain bytes.
    #[must_use]
    pub fn id(&self, plain: &[u8]) -> BlobId {
        keyed(&self.id, plain)
    }

    /// Returns the seed for cutting streams into chunks. Other projects have other seeds, and cut
    /// the same stream at other places.
    #[must_use]
    pub fn cut_seed(&self) -> u64 {
        self.cuts
    }
}

impl ProjectKeys {
    /// Derives the keys that the holder of a full key has, from the project's secret.
    #[must_use]
    pub fn full(secret: &Secret) -> Self {
        let key = secret.derive("cuttlebone 2026-11-21 data");
        let private = DataPrivateKey::from_seed(&key.derive("cuttlebone 2026-11-21 x-wing"));
        let signing = SigningKey::from_seed(&secret.derive("cuttlebone 2026-11-21 signing"));
        Self {
            metadata: MetadataKeys::new(secret.derive("cuttlebone 2026-11-21 metadata")),
            chunks: Some(ChunkKeys::new(
                secret.derive("cuttlebone 2026-11-21 chunk ids"),
            )),
            data: DataKeys::Full {
                public: Box::new(private.public()),
                private: Box::new(private),
                key,
            },
            authority: signing.public(),
            signing,
        }
    }

    /// Derives the keys that the holder of a write key has, from the secrets in its slot.
    #[must_use]
    pub fn write(secrets: WriteSecrets) -> Self {
        Self {
            metadata: MetadataKeys::new(secrets.metadata),
            chunks: Some(ChunkKeys::new(secrets.chunks)),
            data: DataKeys::Write(Box::new(secrets.data)),
            signing: SigningKey::from_seed(&secrets.seed),
            authority: secrets.authority,
        }
    }

    /// Derives the keys that the holder of a verify key has, from the secrets in its slot.
    #[must_use]
    pub fn verify(secrets: VerifySecrets) -> Self {
        Self {
            metadata: MetadataKeys::new(secrets.metadata),
            chunks: None,
            data: DataKeys::Verify,
            signing: SigningKey::from_seed(&secrets.seed),
            authority: secrets.authority,
        }
    }

    /// Returns the role that holds these keys.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.data {
            DataKeys::Full { .. } => Role::Full,
            DataKeys::Write(_) => Role::Write,
            DataKeys::Verify => Role::Verify,
        }
    }

    /// Fails if the role of these keys does not include `needed`.
    pub fn require(&self, needed: Role) -> Result<(), RoleError> {
        let held = self.role();
        if held.includes(needed) {
            Ok(())
        } else {
            Err(RoleError { held, needed })
        }
    }

    /// Returns the secrets for the slot of a write key. `seed` is the seed of its signing key.
    /// Fails if these are the keys of a verify key.
    pub fn write_secrets(&self, seed: Secret) -> Result<WriteSecrets, RoleError> {
        Ok(WriteSecrets {
            metadata: self.metadata.secret.clone(),
            chunks: self.chunk_keys()?.secret.clone(),
            data: self.data_public_key()?.clone(),
            authority: self.authority,
            seed,
        })
    }

    /// Returns the secrets for the slot of a verify key. `seed` is the seed of its signing key.
    #[must_use]
    pub fn verify_secrets(&self, seed: Secret) -> VerifySecrets {
        VerifySecrets {
            metadata: self.metadata.secret.clone(),
            authority: self.authority,
            seed,
        }
    }

    /// Returns the id of a tree node's plain bytes.
    #[must_use]
    pub fn node_id(&self, plain: &[u8]) -> BlobId {
        keyed(&self.metadata.node_id, plain)
    }

    /// Returns the root of a content: a MAC of its kind, size, chunk size and top node, which
    /// `description` encodes.
    #[must_use]
    pub fn root(&self, description: &[u8]) -> Root {
        let root = blake3::keyed_hash(self.metadata.root.expose(), description);
        Root::from_bytes(*root.as_bytes())
    }

    /// Returns the key that seals the objects of the project, such as index segments and records.
    /// Other keys seal packs, key slots and the project object.
    #[must_use]
    pub fn object(&self) -> &SealKey {
        &self.metadata.object
    }

    /// Returns the key that seals the contents of packs.
    #[must_use]
    pub fn contents(&self) -> &SealKey {
        &self.metadata.contents
    }

    /// Returns the key of the packs that hold tree nodes.
    #[must_use]
    pub fn tree(&self) -> &Secret {
        &self.metadata.tree
    }

    /// Returns the key that seals the info of the project's key slots.
    #[must_use]
    pub fn slot_info(&self) -> &SealKey {
        &self.metadata.slot_info
    }

    /// Returns the keys that name chunks and cut streams. Fails for a verify key.
    pub fn chunk_keys(&self) -> Result<&ChunkKeys, RoleError> {
        let held = self.role();
        let needed = Role::Write;
        self.chunks.as_ref().ok_or(RoleError { held, needed })
    }

    /// Returns the key that seals the chunks that holders of full keys store. Fails unless this is
    /// a full key.
    pub fn data(&self) -> Result<&Secret, RoleError> {
        match &self.data {
            DataKeys::Full { key, .. } => Ok(key),
            DataKeys::Write(_) | DataKeys::Verify => Err(self.needs_full()),
        }
    }

    /// Returns the key that opens the sessions of write keys. Fails unless this is a full key.
    pub fn data_private_key(&self) -> Result<&DataPrivateKey, RoleError> {
        match &self.data {
            DataKeys::Full { private, .. } => Ok(private),
            DataKeys::Write(_) | DataKeys::Verify => Err(self.needs_full()),
        }
    }

    /// Returns the key with which write keys make sessions. Fails for a verify key.
    pub fn data_public_key(&self) -> Result<&DataPublicKey, RoleError> {
        match &self.data {
            DataKeys::Full { public, .. } | DataKeys::Write(public) => Ok(public),
            DataKeys::Verify => Err(RoleError {
                held: Role::Verify,
                needed: Role::Write,
            }),
        }
    }

    /// Returns the key that signs the objects that this client writes. For a full key, this is the
    /// project's key.
    #[must_use]
    pub fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// Returns the public key of the project, which verifies the signatures of full keys.
    #[must_use]
    pub fn authority(&self) -> &SignerId {
        &self.authority
    }

    fn needs_full(&self) -> RoleError {
        RoleError {
            held: self.role(),
            needed: Role::Full,
        }
    }
}

fn keyed(key: &Secret, plain: &[u8]) -> BlobId {
    BlobId::from_bytes(*blake3::keyed_hash(key.expose(), plain).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_roles_that_hold_a_key_derive_the_same_key() {
        let full = ProjectKeys::full(&Secret::new([3; 32]));
        let write = ProjectKeys::write(full.write_secrets(Secret::new([4; 32])).unwrap());
        let verify = ProjectKeys::verify(full.verify_secrets(Secret::new([5; 32])));
        assert_eq!(
            [full.role(), write.role(), verify.role()],
            [Role::Full, Role::Write, Role::Verify]
        );
        for keys in [&write, &verify] {
            assert_eq!(keys.node_id(b"node"), full.node_id(b"node"));
            assert_eq!(keys.root(b"content"), full.root(b"content"));
            assert_eq!(keys.tree(), full.tree());
            assert_eq!(keys.authority(), &full.signing().public());
            assert_ne!(&keys.signing().public(), full.authority());
            assert!(keys.data().is_err() && keys.data_private_key().is_err());
        }
        let id = |keys: &ProjectKeys| keys.chunk_keys().map(|keys| keys.id(b"chunk"));
        assert_eq!(id(&write), id(&full));
        assert!(id(&verify).is_err() && verify.data_public_key().is_err());
        assert_eq!(
            write.data_public_key().unwrap(),
            full.data_public_key().unwrap()
        );
    }

    #[test]
    fn a_role_includes_itself_and_the_lesser_roles() {
        let full = ProjectKeys::full(&Secret::new([3; 32]));
        let write = ProjectKeys::write(full.write_secrets(Secret::new([4; 32])).unwrap());
        let verify = ProjectKeys::verify(full.verify_secrets(Secret::new([5; 32])));
        let may = |keys: &ProjectKeys| {
            [Role::Full, Role::Write, Role::Verify].map(|role| keys.require(role).is_ok())
        };
        assert_eq!(may(&full), [true, true, true]);
        assert_eq!(may(&write), [false, true, true]);
        assert_eq!(may(&verify), [false, false, true]);
    }
}

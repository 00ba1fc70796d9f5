//! X-Wing (draft-connolly-cfrg-xwing-kem-06), which combines ML-KEM-768 and X25519. With the public
//! key, a client makes a session: a key that seals data, and an encapsulation of this key. After
//! the client has erased the session's key, only the holder of the private key can recover it from
//! the encapsulation.

use x_wing::{
    Decapsulate, DecapsulationKey, Decapsulator, EncapsulationKey, KeyExport, TryKeyInit,
};
use zeroize::Zeroizing;

use super::hash::hash;
use super::random::{RandomError, random};
use super::secret::Secret;
use crate::base::ProjectId;

/// The length of the public key, in bytes.
pub const DATA_PUBLIC_KEY_LEN: usize = 1216;
/// The length of an encapsulation, in bytes.
const ENCAPSULATION_LEN: usize = 1120;

/// The ciphertext of X-Wing, from which the private key recovers a session's key.
pub type Encapsulation = [u8; ENCAPSULATION_LEN];

/// The given bytes are not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a public key")]
pub struct PublicKeyError;

/// The public key of a project's data.
#[derive(Clone, PartialEq, Eq)]
pub struct DataPublicKey {
    bytes: Box<[u8; DATA_PUBLIC_KEY_LEN]>,
    key: EncapsulationKey,
}

/// The private key of a project's data.
#[derive(Clone)]
pub struct DataPrivateKey(DecapsulationKey);

impl std::fmt::Debug for DataPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataPublicKey(…)")
    }
}

impl DataPublicKey {
    /// Decodes a public key.
    pub fn from_bytes(bytes: &[u8; DATA_PUBLIC_KEY_LEN]) -> Result<Self, PublicKeyError> {
        let key = EncapsulationKey::new_from_slice(bytes).map_err(|_| PublicKeyError)?;
        let bytes = Box::new(*bytes);
        Ok(Self { bytes, key })
    }

    /// Returns the encoded key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; DATA_PUBLIC_KEY_LEN] {
        &self.bytes
    }

    /// Makes a new session. Returns its encapsulation, which the caller stores, and its key.
    pub fn encapsulate(&self, project: ProjectId) -> Result<(Encapsulation, Secret), RandomError> {
        let randomness = Zeroizing::new(random::<64>()?);
        Ok(self.encapsulate_with(project, &randomness))
    }

    /// Like [`encapsulate`](Self::encapsulate), but with the given random bytes, for test vectors.
    #[must_use]
    pub fn encapsulate_with(
        &self,
        project: ProjectId,
        randomness: &[u8; 64],
    ) -> (Encapsulation, Secret) {
        let (ciphertext, shared) = self.key.encapsulate_deterministic(&(*randomness).into());
        let shared = Zeroizing::new(<[u8; 32]>::from(shared));
        let mut encapsulation = [0; ENCAPSULATION_LEN];
        encapsulation.copy_from_slice(&ciphertext);
        let key = session_key(&shared, &encapsulation, &self.bytes, project);
        (encapsulation, key)
    }
}

impl DataPrivateKey {
    /// Returns the key with this seed.
    #[must_use]
    pub fn from_seed(seed: &Secret) -> Self {
        Self(DecapsulationKey::from(*seed.expose()))
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> DataPublicKey {
        let key = self.0.encapsulation_key().clone();
        let mut bytes = [0; DATA_PUBLIC_KEY_LEN];
        bytes.copy_from_slice(&key.to_bytes());
        DataPublicKey {
            bytes: Box::new(bytes),
            key,
        }
    }

    /// Returns the key of a session. If `encapsulation` is wrong, returns a wrong key, which opens
    /// no run.
    #[must_use]
    pub fn decapsulate(&self, encapsulation: &Encapsulation, project: ProjectId) -> Secret {
        let ciphertext = (*encapsulation).into();
        let shared = Zeroizing::new(<[u8; 32]>::from(self.0.decapsulate(&ciphertext)));
        session_key(&shared, encapsulation, self.public().as_bytes(), project)
    }
}

/// Derives the key of a session from the shared secret of X-Wing, the encapsulation, the public key
/// and the project. So another encapsulation, public key or project gives another key.
fn session_key(
    shared: &[u8; 32],
    encapsulation: &Encapsulation,
    public: &[u8; DATA_PUBLIC_KEY_LEN],
    project: ProjectId,
) -> Secret {
    let material = Zeroizing::new(
        [
            &shared[..],
            &hash(&[encapsulation]),
            &hash(&[public]),
            project.as_bytes(),
        ]
        .concat(),
    );
    Secret::new(blake3::derive_key(
        "cuttlebone 2026-11-21 session",
        &material,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_key_recovers_the_key_of_a_session() {
        let private = DataPrivateKey::from_seed(&Secret::new([5; 32]));
        let project = ProjectId::from_bytes([1; 16]);
        let public = DataPublicKey::from_bytes(private.public().as_bytes()).unwrap();
        let (encapsulation, key) = public.encapsulate(project).unwrap();
        assert_eq!(private.decapsulate(&encapsulation, project), key);
        let elsewhere = ProjectId::from_bytes([2; 16]);
        assert_ne!(private.decapsulate(&encapsulation, elsewhere), key);
        let mut changed = encapsulation;
        changed[1119] ^= 1;
        assert_ne!(private.decapsulate(&changed, project), key);
        let (other, other_key) = public.encapsulate(project).unwrap();
        assert!(other != encapsulation && other_key != key);
    }

    /// The first vector of the draft, appendix C. Of the public key and of the encapsulation, only
    /// the first four bytes are compared.
    #[test]
    fn keys_match_the_test_vector_of_the_draft() {
        let mut seed = [0; 32];
        hex::decode_to_slice(
            "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
            &mut seed,
        )
        .unwrap();
        let mut randomness = [0; 64];
        hex::decode_to_slice(
            "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2\
             35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
            &mut randomness,
        )
        .unwrap();
        let public = DataPrivateKey::from_seed(&Secret::new(seed)).public();
        assert_eq!(public.as_bytes()[..4], [0xe2, 0x23, 0x6b, 0x35]);
        let (encapsulation, shared) = public.key.encapsulate_deterministic(&randomness.into());
        assert_eq!(encapsulation[..4], [0xb8, 0x3a, 0xa8, 0x28]);
        assert_eq!(
            hex::encode(shared),
            "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384"
        );
    }
}

//! The project object: section 6 (Project object) of `docs/format.md`.

use super::error::FormatError;
use super::header::{HEADER_LEN, Header, Magic};
use super::wire::Reader;
use crate::base::SignerId;

/// A project's secret, sealed with a key of the repository, and the project's public keys. The
/// object never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectObject {
    /// The header. The associated data of the sealed secret is the project's id, followed by the
    /// header. The signature covers the header, too. A reader checks the header after it has
    /// verified the signature.
    pub header: Header,
    /// The nonce of the sealed secret.
    pub nonce: [u8; 24],
    /// The project's secret, sealed with a key of the repository.
    pub sealed_secret: [u8; 48],
    /// The signing public key of the project. Full keys sign with its private key.
    pub authority: SignerId,
    /// The public key with which write keys seal data.
    pub data_key: Box<[u8; DATA_KEY_LEN]>,
    /// The signature by `authority`. It covers all fields before it.
    pub signature: [u8; 64],
}

const DATA_KEY_LEN: usize = 1216;
const SIGNED_LEN: usize = HEADER_LEN + 24 + 48 + 32 + DATA_KEY_LEN;

impl ProjectObject {
    /// The length of a project object, in bytes.
    pub const LEN: usize = SIGNED_LEN + 64;

    /// Returns the bytes before the signature.
    #[must_use]
    pub fn signed_part(&self) -> Vec<u8> {
        [
            &self.header.as_bytes()[..],
            &self.nonce,
            &self.sealed_secret,
            self.authority.as_bytes(),
            &self.data_key[..],
        ]
        .concat()
    }

    /// Encodes the object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.signed_part()[..], &self.signature].concat()
    }

    /// Decodes the object. The signature is not verified, and the header is not checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let object = Self {
            header: Magic::Project.read_unverified(&mut reader)?,
            nonce: reader.array()?,
            sealed_secret: reader.array()?,
            authority: SignerId::from_bytes(reader.array()?),
            data_key: Box::new(reader.array()?),
            signature: reader.array()?,
        };
        reader.end()?;
        Ok(object)
    }
}

//! The repository file: section 4 (Repository file) of `docs/format.md`.

use super::error::FormatError;
use super::header::Magic;
use super::wire::Reader;
use crate::base::RepositoryId;

/// The file that makes a store a repository, and that identifies the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryFile {
    /// The id of the repository.
    pub id: RepositoryId,
    /// The time of creation, in seconds since 1970-01-01 UTC.
    pub created: u64,
}

const FIELDS_LEN: usize = 40;
const HASHED_LEN: usize = FIELDS_LEN + 32;

impl RepositoryFile {
    /// The length of the file in bytes.
    pub const LEN: usize = HASHED_LEN + 32;

    /// Returns the bytes that the MAC covers.
    #[must_use]
    pub fn fields(&self) -> [u8; FIELDS_LEN] {
        let mut fields = [0; FIELDS_LEN];
        fields[..16].copy_from_slice(&Magic::Repository.header());
        fields[16..32].copy_from_slice(self.id.as_bytes());
        fields[32..].copy_from_slice(&self.created.to_le_bytes());
        fields
    }

    /// Encodes the file, with the MAC of [`fields`](Self::fields). `hash` is BLAKE3.
    #[must_use]
    pub fn encode(&self, mac: &[u8; 32], hash: impl Fn(&[u8]) -> [u8; 32]) -> [u8; Self::LEN] {
        let mut file = [0; Self::LEN];
        file[..FIELDS_LEN].copy_from_slice(&self.fields());
        file[FIELDS_LEN..HASHED_LEN].copy_from_slice(mac);
        let sum = hash(&file[..HASHED_LEN]);
        file[HASHED_LEN..].copy_from_slice(&sum);
        file
    }

    /// Decodes a file. Returns it with its MAC. The caller must verify the MAC when it has the key.
    /// `hash` is BLAKE3.
    pub fn decode(
        bytes: &[u8],
        hash: impl Fn(&[u8]) -> [u8; 32],
    ) -> Result<(Self, [u8; 32]), FormatError> {
        let mut reader = Reader::new(bytes);
        let header = Magic::Repository.read_unverified(&mut reader)?;
        let id = RepositoryId::from_bytes(reader.array()?);
        let created = reader.u64()?;
        let mac = reader.array()?;
        let sum: [u8; 32] = reader.array()?;
        reader.end()?;
        if hash(&bytes[..HASHED_LEN]) != sum {
            return Err(FormatError::BadChecksum);
        }
        header.check()?;
        Ok((Self { id, created }, mac))
    }
}

//! Section 9: index segments.

use super::error::FormatError;
use super::pack::{Contents, NONCE_LEN};
use super::wire::{Reader, len_u32};
use crate::base::{ObjectHash, TAG_LEN};

/// The least number of bytes of a pack in a segment: hash, random bytes, and contents without
/// nonce and tag.
const PACK_LEN_MIN: usize = 32 + 16 + Contents::SEALED_LEN_MIN - NONCE_LEN - TAG_LEN;

/// A pack and its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackListing {
    /// The hash of the pack, which is its name.
    pub pack: ObjectHash,
    /// The pack's random bytes, so that a blob can be opened without reading the pack's header.
    pub random: [u8; 16],
    /// The runs in the pack.
    pub contents: Contents,
}

/// Lists the contents of packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexSegment {
    /// The packs.
    pub packs: Vec<PackListing>,
    /// Segments that this one replaces.
    pub superseded: Vec<ObjectHash>,
}

impl IndexSegment {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 64 << 20;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&len_u32(self.packs.len()).to_le_bytes());
        for pack in &self.packs {
            out.extend_from_slice(pack.pack.as_bytes());
            out.extend_from_slice(&pack.random);
            out.extend_from_slice(&pack.contents.encode());
        }
        out.extend_from_slice(&len_u32(self.superseded.len()).to_le_bytes());
        for segment in &self.superseded {
            out.extend_from_slice(segment.as_bytes());
        }
        out
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count(PACK_LEN_MIN)?;
        let mut packs = Vec::with_capacity(count);
        for _ in 0..count {
            let pack = ObjectHash::from_bytes(reader.array()?);
            let random = reader.array()?;
            packs.push(PackListing {
                pack,
                random,
                contents: Contents::read(&mut reader)?,
            });
        }
        let count = reader.count(32)?;
        let superseded = (0..count)
            .map(|_| reader.array().map(ObjectHash::from_bytes))
            .collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { packs, superseded })
    }
}

//! Index segments, which list the contents of packs: section 9 (Index segment) of `docs/format.md`.

use std::collections::HashMap;
use std::sync::Arc;

use super::contents::{Contents, PackKey};
use super::error::FormatError;
use super::wire::{Reader, len_u32};
use crate::base::{ObjectHash, SignerId};

/// The minimum length of a pack's entry in a segment, in bytes: hash, random bytes, signer, number
/// of the encapsulation, and contents.
const PACK_LEN_MIN: usize = 32 + 16 + 32 + 4 + Contents::LEN_MIN;
/// Stands for the number of the encapsulation if a pack has none. The keys of such a pack derive
/// from a key of the project, and not from the key of a session.
const NO_SESSION: u32 = u32::MAX;

/// A pack and its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackListing {
    /// The hash of the pack, which is its name.
    pub pack: ObjectHash,
    /// The pack's random bytes, so that a blob can be opened without reading the pack's header.
    pub random: [u8; 16],
    /// The signer of the pack.
    pub signer: SignerId,
    /// The contents: the key, the runs and the gap of the pack.
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

    /// Returns the body, to be compressed and sealed. It contains each encapsulation (the
    /// encrypted key of a session) only once.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encapsulations = Vec::new();
        let mut numbers = HashMap::new();
        let mut packs = Vec::new();
        for pack in &self.packs {
            let session = match &pack.contents.key {
                PackKey::Project => NO_SESSION,
                PackKey::Session(encapsulation) => {
                    *numbers.entry(encapsulation).or_insert_with(|| {
                        encapsulations.push(encapsulation);
                        len_u32(encapsulations.len()) - 1
                    })
                }
            };
            packs.extend_from_slice(pack.pack.as_bytes());
            packs.extend_from_slice(&pack.random);
            packs.extend_from_slice(pack.signer.as_bytes());
            packs.extend_from_slice(&session.to_le_bytes());
            pack.contents.encode_into(&mut packs);
        }
        let mut out = Vec::new();
        out.extend_from_slice(&len_u32(encapsulations.len()).to_le_bytes());
        for encapsulation in encapsulations {
            out.extend_from_slice(&encapsulation[..]);
        }
        out.extend_from_slice(&len_u32(self.packs.len()).to_le_bytes());
        out.append(&mut packs);
        out.extend_from_slice(&len_u32(self.superseded.len()).to_le_bytes());
        for segment in &self.superseded {
            out.extend_from_slice(segment.as_bytes());
        }
        out
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count(1120)?;
        let encapsulations = (0..count)
            .map(|_| reader.array().map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let count = reader.count(PACK_LEN_MIN)?;
        let mut packs = Vec::with_capacity(count);
        for _ in 0..count {
            let pack = ObjectHash::from_bytes(reader.array()?);
            let random = reader.array()?;
            let signer = SignerId::from_bytes(reader.array()?);
            let session = match reader.u32()? {
                NO_SESSION => None,
                number => {
                    let known = encapsulations.get(number as usize);
                    Some(known.ok_or(FormatError::BadValue("session of a pack"))?)
                }
            };
            packs.push(PackListing {
                pack,
                random,
                signer,
                contents: Contents::read(&mut reader, session.cloned())?,
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

//! Section 8: packs.

use super::wire::{Reader, len_u32};
use super::{FormatError, HEADER_LEN, Magic};
use crate::base::BlobId;

/// No blob is longer, in bytes, before it is compressed and sealed.
pub const BLOB_PLAIN_MAX: usize = 4 << 20;
/// No pack is longer, in bytes.
pub const PACK_SIZE_MAX: u64 = 256 << 20;
/// No pack has more blobs.
pub const PACK_ENTRIES_MAX: usize = 1 << 20;
/// Bytes before the first blob: header and nonce.
pub const PACK_HEAD_LEN: usize = HEADER_LEN + 16;
/// Bytes behind the trailer: its length.
pub const PACK_TAIL_LEN: usize = 4;
/// An entry in bytes.
pub const ENTRY_LEN: usize = 44;
const TAG_LEN: u32 = 16;

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// Content of a volume or stream.
    Chunk,
    /// A tree node.
    Node,
}

impl BlobKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::Node => 2,
        }
    }
}

/// How bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// As one Zstandard frame.
    Zstd,
}

impl Codec {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            _ => Err(FormatError::BadValue("codec")),
        }
    }
}

/// What a pack or an index segment says of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: BlobKind,
    /// How its content is stored.
    pub codec: Codec,
    /// Bytes of its content.
    pub plain_len: u32,
    /// Bytes it takes in the pack, tag included.
    pub stored_len: u32,
    /// Its id.
    pub id: BlobId,
}

impl Entry {
    /// Its 44 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut out = [0; ENTRY_LEN];
        out[0] = self.kind.byte();
        out[1] = self.codec.byte();
        out[4..8].copy_from_slice(&self.plain_len.to_le_bytes());
        out[8..12].copy_from_slice(&self.stored_len.to_le_bytes());
        out[12..].copy_from_slice(self.id.as_bytes());
        out
    }

    /// From its 44 bytes.
    pub fn decode(bytes: &[u8; ENTRY_LEN]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let kind = match reader.u8()? {
            1 => BlobKind::Chunk,
            2 => BlobKind::Node,
            _ => return Err(FormatError::BadValue("kind of a blob")),
        };
        let codec = Codec::from_byte(reader.u8()?)?;
        reader.zeros::<2>()?;
        let plain_len = reader.u32()?;
        let stored_len = reader.u32()?;
        let id = BlobId::from_bytes(reader.array()?);
        if plain_len == 0 {
            return Err(FormatError::BadValue("length of a blob"));
        }
        if plain_len as usize > BLOB_PLAIN_MAX {
            return Err(FormatError::LimitExceeded("length of a blob"));
        }
        let stored_max = plain_len + TAG_LEN;
        let fits = match codec {
            Codec::Raw => stored_len == stored_max,
            Codec::Zstd => (TAG_LEN + 1..=stored_max).contains(&stored_len),
        };
        if !fits {
            return Err(FormatError::BadValue("stored length of a blob"));
        }
        Ok(Self {
            kind,
            codec,
            plain_len,
            stored_len,
            id,
        })
    }
}

/// Reads `count` entries and the bytes that their blobs take; they must be of one kind.
pub(super) fn read_entries(
    reader: &mut Reader<'_>,
    count: usize,
) -> Result<Vec<Entry>, FormatError> {
    if count == 0 {
        return Err(FormatError::BadValue("number of blobs"));
    }
    if count > PACK_ENTRIES_MAX {
        return Err(FormatError::LimitExceeded("number of blobs"));
    }
    let mut entries = Vec::with_capacity(count);
    let mut size = PACK_HEAD_LEN as u64 + (sealed_trailer_len(count) + PACK_TAIL_LEN) as u64;
    for _ in 0..count {
        let entry = Entry::decode(&reader.array()?)?;
        if entries
            .first()
            .is_some_and(|first: &Entry| first.kind != entry.kind)
        {
            return Err(FormatError::BadValue("kind of a blob"));
        }
        size += u64::from(entry.stored_len);
        entries.push(entry);
    }
    if size > PACK_SIZE_MAX {
        return Err(FormatError::LimitExceeded("size of a pack"));
    }
    Ok(entries)
}

/// The first 32 bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackHead {
    /// With an ordinal it makes the nonce of a blob.
    pub nonce: [u8; 16],
}

impl PackHead {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PACK_HEAD_LEN] {
        let mut out = [0; PACK_HEAD_LEN];
        out[..HEADER_LEN].copy_from_slice(&Magic::Pack.header());
        out[HEADER_LEN..].copy_from_slice(&self.nonce);
        out
    }

    /// From its bytes.
    pub fn decode(bytes: &[u8; PACK_HEAD_LEN]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        Magic::Pack.read(&mut reader)?;
        Ok(Self {
            nonce: reader.array()?,
        })
    }
}

/// What a pack holds, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// One a blob, all of one kind.
    pub entries: Vec<Entry>,
}

/// Bytes of the sealed trailer of a pack with so many blobs.
#[must_use]
pub const fn sealed_trailer_len(count: usize) -> usize {
    4 + ENTRY_LEN * count + TAG_LEN as usize
}

impl Trailer {
    /// The plaintext to seal.
    #[must_use]
    pub fn encode(entries: &[Entry]) -> Vec<u8> {
        let mut out = Vec::with_capacity(sealed_trailer_len(entries.len()));
        out.extend_from_slice(&len_u32(entries.len()).to_le_bytes());
        for entry in entries {
            out.extend_from_slice(&entry.encode());
        }
        out
    }

    /// From opened plaintext. Whether the sizes add up to the pack's is for
    /// [`pack_size`](Self::pack_size) to tell.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count(ENTRY_LEN)?;
        let entries = read_entries(&mut reader, count)?;
        reader.end()?;
        Ok(Self { entries })
    }

    /// The size in bytes of the pack that has these blobs.
    #[must_use]
    pub fn pack_size(entries: &[Entry]) -> u64 {
        let blobs: u64 = entries.iter().map(|e| u64::from(e.stored_len)).sum();
        let rest = PACK_HEAD_LEN + sealed_trailer_len(entries.len()) + PACK_TAIL_LEN;
        blobs + rest as u64
    }
}

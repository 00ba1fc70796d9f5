//! The first bytes of a pack, and the descriptors of its runs: section 8 (Pack) of
//! `docs/format.md`.

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::wire::Reader;
use crate::base::{BlobId, TAG_LEN};

/// The maximum length of a pack, in bytes.
pub const PACK_SIZE_MAX: u64 = 256 << 20;
/// The maximum number of blobs in a pack, which is also the maximum number of runs.
pub(super) const PACK_BLOBS_MAX: usize = 1 << 20;
/// The maximum number of blobs in a run.
pub const RUN_BLOBS_MAX: usize = 1024;
/// The maximum length of all blobs of a run together, in bytes.
pub const RUN_PLAIN_MAX: usize = 4 << 20;
/// The number of bytes before the first run: header and random bytes.
pub const PACK_HEAD_LEN: usize = HEADER_LEN + 16;
/// The number of bytes after the contents: a field with the length of the contents.
pub const PACK_TAIL_LEN: usize = 4;
/// The length in bytes of a run's descriptor without its blobs: codec, suite, number of blobs,
/// stored length and check.
pub(super) const RUN_HEAD_LEN: usize = 24;
/// The length in bytes of the nonce that the contents are sealed with.
pub const NONCE_LEN: usize = 24;
/// The length in bytes of a blob in a descriptor: plain length and id.
pub(super) const BLOB_LEN: usize = 36;

/// The kind of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// A piece of an image or a stream.
    Chunk,
    /// A tree node.
    Node,
}

impl BlobKind {
    /// Returns the byte that encodes the kind.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::Node => 2,
        }
    }

    /// Returns the number of packs that hold each blob of this kind.
    #[must_use]
    pub const fn copies(self) -> usize {
        match self {
            Self::Chunk => 1,
            Self::Node => 2,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            1 => Ok(Self::Chunk),
            2 => Ok(Self::Node),
            _ => Err(FormatError::BadValue("kind of blobs")),
        }
    }
}

/// How bytes are encoded before they are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    Raw,
    /// One Zstandard frame.
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

/// A blob in the contents of a pack or in an index segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// The number of plain bytes.
    pub plain_len: u32,
    /// The id of the plain bytes.
    pub id: BlobId,
}

/// Blobs that are compressed and sealed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How the joined blobs are encoded.
    pub codec: Codec,
    /// The number of bytes that the run takes in the pack, with its tag.
    pub stored_len: u32,
    /// A MAC of the compressed bytes, which makes the run's key unique to them. Zero for a raw run.
    pub check: [u8; 16],
    /// The blobs, in order.
    pub blobs: Vec<Blob>,
}

impl Run {
    /// Returns the length of the joined blobs in bytes.
    #[must_use]
    pub fn plain_len(&self) -> usize {
        self.blobs.iter().map(|blob| blob.plain_len as usize).sum()
    }

    /// Returns how many stored bytes of the run count for `plain` of its plain bytes: in
    /// proportion, rounded down.
    #[must_use]
    pub fn share(&self, plain: u64) -> u64 {
        let all = self.plain_len() as u64;
        if plain == all {
            return u64::from(self.stored_len);
        }
        u64::from(self.stored_len) * plain / all.max(1)
    }

    /// Returns the run's descriptor, from which its key derives.
    #[must_use]
    pub fn descriptor(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out
    }

    pub(super) const fn encoded_len(&self) -> usize {
        RUN_HEAD_LEN + self.blobs.len() * BLOB_LEN
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a run has 1024 blobs at most"
        )]
        let count = self.blobs.len() as u16;
        out.extend_from_slice(&[self.codec.byte(), 0]);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.stored_len.to_le_bytes());
        out.extend_from_slice(&self.check);
        for blob in &self.blobs {
            out.extend_from_slice(&blob.plain_len.to_le_bytes());
            out.extend_from_slice(blob.id.as_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let codec = Codec::from_byte(reader.u8()?)?;
        reader.zeros::<1>()?;
        let count = usize::from(reader.u16()?);
        let stored_len = reader.u32()?;
        let check = reader.array()?;
        if count == 0 {
            return Err(FormatError::BadValue("number of blobs"));
        }
        if count > RUN_BLOBS_MAX {
            return Err(FormatError::LimitExceeded("number of blobs"));
        }
        if count * BLOB_LEN > reader.left() {
            return Err(FormatError::Truncated);
        }
        let mut blobs = Vec::with_capacity(count);
        let mut plain_len = 0;
        for _ in 0..count {
            let blob = Blob {
                plain_len: reader.u32()?,
                id: BlobId::from_bytes(reader.array()?),
            };
            if blob.plain_len == 0 {
                return Err(FormatError::BadValue("length of a blob"));
            }
            plain_len += u64::from(blob.plain_len);
            if plain_len > RUN_PLAIN_MAX as u64 {
                return Err(FormatError::LimitExceeded("length of a blob"));
            }
            blobs.push(blob);
        }
        let stored = u64::from(stored_len);
        let most = plain_len + TAG_LEN as u64;
        let fits = match codec {
            Codec::Raw => stored == most,
            Codec::Zstd => (TAG_LEN as u64 + 1..=most).contains(&stored),
        };
        if fits {
            Ok(Self {
                codec,
                stored_len,
                check,
                blobs,
            })
        } else {
            Err(FormatError::BadValue("stored length of a run"))
        }
    }
}

/// The first 32 bytes of a pack: header and random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackHead {
    /// The random bytes of the pack. The keys of its runs derive from them and from a secret key.
    pub random: [u8; 16],
}

impl PackHead {
    /// Returns the bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PACK_HEAD_LEN] {
        let mut out = [0; PACK_HEAD_LEN];
        out[..HEADER_LEN].copy_from_slice(&Magic::Pack.header());
        out[HEADER_LEN..].copy_from_slice(&self.random);
        out
    }

    /// Decodes the bytes.
    pub fn decode(bytes: &[u8; PACK_HEAD_LEN]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        Magic::Pack.read(&mut reader)?;
        Ok(Self {
            random: reader.array()?,
        })
    }
}

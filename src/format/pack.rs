//! Section 8: packs.

use super::error::FormatError;
use super::header::{HEADER_LEN, Magic};
use super::wire::{Reader, len_u32};
use crate::base::{BlobId, TAG_LEN};

/// No pack is longer, in bytes.
pub const PACK_SIZE_MAX: u64 = 256 << 20;
/// No pack has more blobs, or runs.
const PACK_BLOBS_MAX: usize = 1 << 20;
/// No run has more blobs.
pub const RUN_BLOBS_MAX: usize = 1024;
/// The blobs of a run are no longer together, in bytes.
pub const RUN_PLAIN_MAX: usize = 4 << 20;
/// Bytes before the first blob: header and nonce.
pub const PACK_HEAD_LEN: usize = HEADER_LEN + 16;
/// Bytes behind the contents: their length.
pub const PACK_TAIL_LEN: usize = 4;
/// Kind, zeros and number of runs.
const CONTENTS_HEAD_LEN: usize = 8;
/// Codec, zero, number of blobs and stored length.
const RUN_HEAD_LEN: usize = 8;
/// Plain length and id.
const BLOB_LEN: usize = 36;

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

    fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            1 => Ok(Self::Chunk),
            2 => Ok(Self::Node),
            _ => Err(FormatError::BadValue("kind of blobs")),
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

/// A blob, as a pack or an index segment names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Bytes of its content.
    pub plain_len: u32,
    /// Its id.
    pub id: BlobId,
}

/// Blobs that are compressed and sealed as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How their joined content is stored.
    pub codec: Codec,
    /// Bytes that it takes in the pack, tag included.
    pub stored_len: u32,
    /// The blobs, in order.
    pub blobs: Vec<Blob>,
}

impl Run {
    /// Bytes of the joined content.
    #[must_use]
    pub fn plain_len(&self) -> usize {
        self.blobs.iter().map(|blob| blob.plain_len as usize).sum()
    }

    /// What the run is bound to, beside project and pack: its kind and descriptor.
    #[must_use]
    pub fn context(&self, kind: BlobKind) -> Vec<u8> {
        let mut out = vec![kind.byte()];
        self.encode_into(&mut out);
        out
    }

    const fn encoded_len(&self) -> usize {
        RUN_HEAD_LEN + self.blobs.len() * BLOB_LEN
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a run has 1024 blobs at most"
        )]
        let count = self.blobs.len() as u16;
        out.extend_from_slice(&[self.codec.byte(), 0]);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.stored_len.to_le_bytes());
        for blob in &self.blobs {
            out.extend_from_slice(&blob.plain_len.to_le_bytes());
            out.extend_from_slice(blob.id.as_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let codec = Codec::from_byte(reader.u8()?)?;
        reader.zeros::<1>()?;
        let count = usize::from(reader.u16()?);
        let stored_len = reader.u32()?;
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
                blobs,
            })
        } else {
            Err(FormatError::BadValue("stored length of a run"))
        }
    }
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

/// A run that was looked up in a pack's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRun {
    /// What the pack's blobs are.
    pub kind: BlobKind,
    /// The run's ordinal.
    pub ordinal: u64,
    /// Stored bytes of the runs before it.
    pub before: u64,
    /// The run.
    pub run: Run,
    /// The wanted blob's number in it.
    pub blob: usize,
}

/// What a pack holds, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// What all its blobs are.
    pub kind: BlobKind,
    /// One at least.
    pub runs: Vec<Run>,
}

impl Contents {
    /// The shortest sealed contents, in bytes.
    pub const SEALED_LEN_MIN: usize = CONTENTS_HEAD_LEN + RUN_HEAD_LEN + BLOB_LEN + TAG_LEN;
    /// The longest.
    pub const SEALED_LEN_MAX: usize =
        CONTENTS_HEAD_LEN + PACK_BLOBS_MAX * (RUN_HEAD_LEN + BLOB_LEN) + TAG_LEN;

    /// All blobs, in order.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.runs.iter().flat_map(|run| &run.blobs)
    }

    /// Their bytes once sealed.
    #[must_use]
    pub fn sealed_len(&self) -> usize {
        let runs: usize = self.runs.iter().map(Run::encoded_len).sum();
        CONTENTS_HEAD_LEN + runs + TAG_LEN
    }

    /// The size in bytes of the pack that holds this.
    #[must_use]
    pub fn pack_size(&self) -> u64 {
        let runs: u64 = self.runs.iter().map(|run| u64::from(run.stored_len)).sum();
        runs + (PACK_HEAD_LEN + self.sealed_len() + PACK_TAIL_LEN) as u64
    }

    /// The bytes to seal, or to put into a segment.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.sealed_len());
        out.extend_from_slice(&[self.kind.byte(), 0, 0, 0]);
        out.extend_from_slice(&len_u32(self.runs.len()).to_le_bytes());
        for run in &self.runs {
            run.encode_into(&mut out);
        }
        out
    }

    /// Out of encoded contents only the run that holds blob `number`, counted through all runs.
    pub fn find_run(bytes: &[u8], number: u32) -> Result<Option<FoundRun>, FormatError> {
        let mut reader = Reader::new(bytes);
        let kind = BlobKind::from_byte(reader.u8()?)?;
        reader.zeros::<3>()?;
        let (mut before, mut left) = (0, number as usize);
        for ordinal in 0..u64::from(reader.u32()?) {
            let mut head = reader.peek();
            let (_, count, stored_len) = (head.array::<2>()?, head.u16()?, head.u32()?);
            if left < usize::from(count) {
                let run = Run::read(&mut reader)?;
                return Ok(Some(FoundRun {
                    kind,
                    ordinal,
                    before,
                    run,
                    blob: left,
                }));
            }
            left -= usize::from(count);
            before += u64::from(stored_len);
            reader.bytes(RUN_HEAD_LEN + usize::from(count) * BLOB_LEN)?;
        }
        Ok(None)
    }

    /// From opened bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let contents = Self::read(&mut reader)?;
        reader.end()?;
        Ok(contents)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let kind = BlobKind::from_byte(reader.u8()?)?;
        reader.zeros::<3>()?;
        let count = reader.u32()? as usize;
        if count == 0 {
            return Err(FormatError::BadValue("number of runs"));
        }
        if count > PACK_BLOBS_MAX {
            return Err(FormatError::LimitExceeded("number of runs"));
        }
        if count * (RUN_HEAD_LEN + BLOB_LEN) > reader.left() {
            return Err(FormatError::Truncated);
        }
        let mut runs = Vec::with_capacity(count);
        let mut blobs = 0;
        for _ in 0..count {
            let run = Run::read(reader)?;
            blobs += run.blobs.len();
            if blobs > PACK_BLOBS_MAX {
                return Err(FormatError::LimitExceeded("number of blobs"));
            }
            runs.push(run);
        }
        let contents = Self { kind, runs };
        if contents.pack_size() > PACK_SIZE_MAX {
            return Err(FormatError::LimitExceeded("size of a pack"));
        }
        Ok(contents)
    }
}

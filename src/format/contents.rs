//! The contents of packs: section 8 (Pack) of `docs/format.md`. Contents list the runs of a pack,
//! and state the pack's key and signer.

use std::fmt;
use std::sync::Arc;

use super::error::FormatError;
use super::pack::{
    BLOB_LEN, Blob, BlobKind, NONCE_LEN, PACK_BLOBS_MAX, PACK_HEAD_LEN, PACK_SIZE_MAX,
    PACK_TAIL_LEN, RUN_HEAD_LEN, Run,
};
use super::wire::{Reader, len_u32};
use crate::base::{BlobId, SignerId, TAG_LEN};

/// The length in bytes of kind, key, zeros, number of runs and gap.
const CONTENTS_HEAD_LEN: usize = 12;
/// The length in bytes of hash, signer and signature.
const CONTENTS_TAIL_LEN: usize = 32 + 32 + SIGNATURE_LEN;
/// The length of a signature, in bytes.
const SIGNATURE_LEN: usize = 64;
/// The length of a session's encapsulation, in bytes.
const ENCAPSULATION_LEN: usize = 1120;

/// The key from which the keys of a pack's runs derive.
#[derive(Clone, PartialEq, Eq)]
pub enum PackKey {
    /// A key of the project: the key of its data for chunks, or the key of its trees for nodes.
    Project,
    /// The key of the session with this encapsulation. Only a pack of chunks can have such a key.
    Session(Arc<[u8; ENCAPSULATION_LEN]>),
}

impl PackKey {
    const fn byte(&self) -> u8 {
        match self {
            Self::Project => 0,
            Self::Session(_) => 1,
        }
    }

    const fn encapsulation_len(&self) -> usize {
        match self {
            Self::Project => 0,
            Self::Session(_) => ENCAPSULATION_LEN,
        }
    }
}

impl fmt::Debug for PackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Project => "Project",
            Self::Session(_) => "Session(…)",
        })
    }
}

/// The run of a wanted blob, as found in the contents of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRun {
    /// The kind of all blobs in the pack.
    pub kind: BlobKind,
    /// The position of the run in the pack, from 0.
    pub ordinal: u64,
    /// The number of stored bytes of all runs before it.
    pub before: u64,
    /// The run.
    pub run: Run,
    /// The position of the wanted blob in the run, from 0.
    pub blob: usize,
}

/// The contents of a pack: its runs, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The kind of all blobs.
    pub kind: BlobKind,
    /// The key from which the keys of the runs derive.
    pub key: PackKey,
    /// The number of zero bytes between the last run and the sealed contents.
    pub gap: u32,
    /// The runs; at least one.
    pub runs: Vec<Run>,
}

impl Contents {
    /// The minimum length of encoded contents, in bytes.
    pub(super) const LEN_MIN: usize = CONTENTS_HEAD_LEN + RUN_HEAD_LEN + BLOB_LEN;
    /// The minimum length of sealed contents with their nonce, in bytes.
    pub const SEALED_LEN_MIN: usize = NONCE_LEN + Self::LEN_MIN + CONTENTS_TAIL_LEN + TAG_LEN;
    /// The maximum length of sealed contents with their nonce, in bytes.
    pub const SEALED_LEN_MAX: usize = NONCE_LEN
        + CONTENTS_HEAD_LEN
        + PACK_BLOBS_MAX * (RUN_HEAD_LEN + BLOB_LEN)
        + ENCAPSULATION_LEN
        + CONTENTS_TAIL_LEN
        + TAG_LEN;

    /// Returns all blobs, in order.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.runs.iter().flat_map(|run| &run.blobs)
    }

    /// Returns the length in bytes of the encoded contents without the encapsulation.
    fn encoded_len(&self) -> usize {
        let runs: usize = self.runs.iter().map(Run::encoded_len).sum();
        CONTENTS_HEAD_LEN + runs
    }

    /// Returns the length of the sealed contents with their nonce, in bytes.
    #[must_use]
    pub fn sealed_len(&self) -> usize {
        let more = self.key.encapsulation_len() + CONTENTS_TAIL_LEN;
        NONCE_LEN + self.encoded_len() + more + TAG_LEN
    }

    /// Returns the length in bytes of a pack with these contents.
    #[must_use]
    pub fn pack_size(&self) -> u64 {
        let runs: u64 = self.runs.iter().map(|run| u64::from(run.stored_len)).sum();
        let more = PACK_HEAD_LEN + self.sealed_len() + PACK_TAIL_LEN;
        runs + u64::from(self.gap) + more as u64
    }

    /// Returns the encoded contents from the kind to the last descriptor of a run. An index segment
    /// contains the same bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind.byte(), self.key.byte(), 0, 0]);
        out.extend_from_slice(&len_u32(self.runs.len()).to_le_bytes());
        out.extend_from_slice(&self.gap.to_le_bytes());
        for run in &self.runs {
            run.encode_into(out);
        }
    }

    /// Finds a blob in [encoded](Self::encode) contents, and decodes only the run that holds it.
    /// `number` is the position of the blob among the blobs of all runs, from 0. Returns `None` if
    /// there are fewer blobs.
    pub fn find_run(bytes: &[u8], number: u32) -> Result<Option<FoundRun>, FormatError> {
        let mut reader = Reader::new(bytes);
        let kind = BlobKind::from_byte(reader.u8()?)?;
        let _key: [u8; 3] = reader.array()?;
        let (mut before, mut left) = (0, number as usize);
        let count = reader.u32()?;
        let _gap = reader.u32()?;
        for ordinal in 0..u64::from(count) {
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

    /// Decodes [encoded](Self::encode) contents. `session` is the encapsulation of the pack's
    /// session, if it has one.
    pub fn decode(
        bytes: &[u8],
        session: Option<Arc<[u8; ENCAPSULATION_LEN]>>,
    ) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let contents = Self::read(&mut reader, session)?;
        reader.end()?;
        Ok(contents)
    }

    /// Decodes the ids of all blobs, in order, from [encoded](Self::encode) contents.
    pub fn decode_ids(bytes: &[u8]) -> Result<Vec<BlobId>, FormatError> {
        let any = |_: &mut Reader<'_>| Ok(Arc::new([0; ENCAPSULATION_LEN]));
        let (contents, _) = Self::read_with(&mut Reader::new(bytes), any)?;
        Ok(contents.blobs().map(|blob| blob.id).collect())
    }

    /// Reads contents up to the end of the descriptors. `session` must be given if and only if the
    /// contents state that the pack has a session.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        session: Option<Arc<[u8; ENCAPSULATION_LEN]>>,
    ) -> Result<Self, FormatError> {
        let has_session = session.is_some();
        let (contents, says_so) = Self::read_with(reader, |_| session.map_or_else(no_session, Ok))?;
        if has_session == says_so {
            Ok(contents)
        } else {
            no_session()
        }
    }

    /// Reads contents. Returns them, and whether they state that the pack has a session. If so,
    /// calls `session` after the last descriptor. `session` returns the encapsulation, which it may
    /// read from the reader.
    fn read_with<'a>(
        reader: &mut Reader<'a>,
        session: impl FnOnce(&mut Reader<'a>) -> Result<Arc<[u8; ENCAPSULATION_LEN]>, FormatError>,
    ) -> Result<(Self, bool), FormatError> {
        let kind = BlobKind::from_byte(reader.u8()?)?;
        let has_session = match (reader.u8()?, kind) {
            (0, _) => false,
            (1, BlobKind::Chunk) => true,
            _ => return Err(FormatError::BadValue("key of a pack")),
        };
        reader.zeros::<2>()?;
        let count = reader.u32()? as usize;
        let gap = reader.u32()?;
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
        let key = if has_session {
            PackKey::Session(session(reader)?)
        } else {
            PackKey::Project
        };
        let contents = Self {
            kind,
            key,
            gap,
            runs,
        };
        if contents.pack_size() > PACK_SIZE_MAX {
            return Err(FormatError::LimitExceeded("size of a pack"));
        }
        Ok((contents, has_session))
    }
}

fn no_session<T>() -> Result<T, FormatError> {
    Err(FormatError::BadValue("session of a pack"))
}

/// The plaintext of a pack's sealed contents. Do not rely on it before the signature is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedContents<'a> {
    /// The bytes before the signature, which covers them and the nonce.
    pub signed: &'a [u8],
    /// The public key that verifies the signature.
    pub signer: SignerId,
    /// The signature.
    pub signature: [u8; SIGNATURE_LEN],
}

impl<'a> SignedContents<'a> {
    /// Returns the plaintext without its signature. The caller adds the signature. `before` is
    /// the hash of all bytes of the pack before the nonce of the sealed contents.
    #[must_use]
    pub fn encode_unsigned(contents: &Contents, before: &[u8; 32], signer: &SignerId) -> Vec<u8> {
        let mut out = Vec::with_capacity(contents.sealed_len());
        contents.encode_into(&mut out);
        if let PackKey::Session(encapsulation) = &contents.key {
            out.extend_from_slice(&encapsulation[..]);
        }
        out.extend_from_slice(before);
        out.extend_from_slice(signer.as_bytes());
        out
    }

    /// Splits the plaintext of sealed contents into the signed bytes, the signer and the signature.
    pub fn split(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (before, signature) = bytes.split_last_chunk().ok_or(FormatError::Truncated)?;
        let (_, signer) = before.split_last_chunk().ok_or(FormatError::Truncated)?;
        Ok(Self {
            signed: before,
            signer: SignerId::from_bytes(*signer),
            signature: *signature,
        })
    }

    /// Decodes the contents. Returns them with the hash of all bytes of the pack before the nonce
    /// of the sealed contents.
    pub fn decode(&self) -> Result<(Contents, [u8; 32]), FormatError> {
        let mut reader = Reader::new(self.signed);
        let session = |reader: &mut Reader<'_>| Ok(Arc::new(reader.array()?));
        let (contents, _) = Contents::read_with(&mut reader, session)?;
        let before = reader.array()?;
        let _signer: [u8; 32] = reader.array()?;
        reader.end()?;
        Ok((contents, before))
    }
}

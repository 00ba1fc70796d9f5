//! Opens runs again before their pack is stored, so that bad memory is noticed while the source
//! still exists.

use std::sync::Mutex;

use super::super::blobs::{pack_context, run_context};
use super::super::codec::Decompressor;
use super::super::error::RepoError;
use super::super::project::Project;
use crate::base::{Buffer, TAG_LEN, lock};
use crate::crypto::PackCipher;
use crate::format::{BlobKind, Contents, RUN_PLAIN_MAX};

/// The memory for verifications. All packs use the same memory, since clearing new memory for each
/// pack would take longer than the verification. So one pack is verified at a time.
#[derive(Default)]
pub(super) struct VerifyBuffers(Mutex<Option<VerifyBuffer>>);

struct VerifyBuffer {
    decompressor: Decompressor,
    sealed: Vec<u8>,
    plain: Buffer,
}

impl VerifyBuffer {
    fn new() -> Result<Self, RepoError> {
        Ok(Self {
            decompressor: Decompressor::new().map_err(RepoError::Compress)?,
            // A vector that grows leaves behind memory of its former sizes.
            sealed: Vec::with_capacity(RUN_PLAIN_MAX + TAG_LEN),
            plain: Buffer::default(),
        })
    }
}

/// By default, one in this many runs is verified.
const SAMPLE: u64 = 16;

/// The runs of new packs that are opened again before the packs are stored. The blobs in them are
/// compared with their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyWrites {
    /// One in this many runs of chunks is verified, and all tree nodes; 0 for none.
    one_in: u64,
    /// Whether to flip a bit of each pack before it is verified, as bad memory would.
    #[cfg(feature = "testing")]
    flips: bool,
}

impl VerifyWrites {
    /// Verify every run. Takes as much time as reading the data.
    pub const ALL: Self = Self::one_in(1);
    /// Verify every 16th run of chunks, counted over all packs, and all tree nodes.
    pub const SAMPLE: Self = Self::one_in(SAMPLE);
    /// Verify nothing.
    pub const OFF: Self = Self::one_in(0);

    const fn one_in(one_in: u64) -> Self {
        Self {
            one_in,
            #[cfg(feature = "testing")]
            flips: false,
        }
    }

    /// Flips a bit in the last run of each pack, before runs are verified.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn with_bad_memory(self) -> Self {
        Self {
            flips: true,
            ..self
        }
    }

    /// Returns the sealed runs of a pack, with a flipped bit if a test asks for that.
    #[cfg(feature = "testing")]
    pub(super) fn disturbed(self, mut parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        if let Some(byte) = parts.last_mut().and_then(|part| part.last_mut())
            && self.flips
        {
            *byte ^= 1;
        }
        parts
    }

    #[cfg(not(feature = "testing"))]
    #[expect(clippy::unused_self, reason = "the version for tests uses it")]
    pub(super) fn disturbed(self, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        parts
    }

    /// Verifies the runs of a pack that are due. `first` is the number of runs of chunks in earlier
    /// packs. `parts` are the sealed runs, in the order of `contents`. Fails with
    /// [`RepoError::BadMemory`] if a run does not open, or if a blob does not have its id.
    pub(super) fn verify(
        self,
        project: &Project,
        cipher: &PackCipher,
        contents: &Contents,
        parts: &[Vec<u8>],
        first: u64,
        buffers: &VerifyBuffers,
    ) -> Result<(), RepoError> {
        if self.one_in == 0 {
            return Ok(());
        }
        // Verify all nodes: there are few of them, and all data below a node depends on it.
        let one_in = match contents.kind {
            BlobKind::Chunk => self.one_in,
            BlobKind::Node => 1,
        };
        let bound = run_context(&pack_context(project), contents.kind);
        let mut buffers = lock(&buffers.0);
        let VerifyBuffer {
            decompressor,
            sealed,
            plain,
        } = match &mut *buffers {
            Some(buffer) => buffer,
            none => none.insert(VerifyBuffer::new()?),
        };
        let mut runs = (0..).zip(&contents.runs);
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let (ordinal, run) = runs.next().ok_or(RepoError::BadMemory)?;
                let len = run.stored_len as usize;
                let (stored, behind) = rest.split_at_checked(len).ok_or(RepoError::BadMemory)?;
                rest = behind;
                if !(first + ordinal).is_multiple_of(one_in) {
                    continue;
                }
                sealed.clear();
                sealed.extend_from_slice(stored);
                let content = cipher
                    .open_in_place(ordinal, &run.descriptor(), &bound, sealed)
                    .map_err(|_| RepoError::BadMemory)?;
                plain.resize(run.plain_len());
                decompressor
                    .decode(run.codec, content, plain)
                    .map_err(|_| RepoError::BadMemory)?;
                let mut rest = &plain[..];
                for blob in &run.blobs {
                    let (plain, behind) = rest
                        .split_at_checked(blob.plain_len as usize)
                        .ok_or(RepoError::BadMemory)?;
                    rest = behind;
                    let id = match contents.kind {
                        BlobKind::Chunk => project.chunk_keys()?.id(plain),
                        BlobKind::Node => project.keys.node_id(plain),
                    };
                    if id != blob.id {
                        return Err(RepoError::BadMemory);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Default for VerifyWrites {
    fn default() -> Self {
        Self::SAMPLE
    }
}

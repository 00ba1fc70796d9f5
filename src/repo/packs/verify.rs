//! Opens runs again before their pack is stored, so that bad memory is noticed while the source
//! still exists.

use std::sync::Mutex;

use super::super::blobs::{pack_context, run_context};
use super::super::codec::Decompressor;
use super::super::error::RepoError;
use super::super::project::Project;
use super::part::Part;
use crate::base::{Buffer, TAG_LEN, lock};
use crate::crypto::PackCipher;
use crate::format::{BlobKind, Contents, Run};

/// The memory for verifications. All packs use the same memory, since clearing new memory for each
/// pack would take longer than the verification. So one pack is verified at a time.
#[derive(Default)]
pub(super) struct VerifyBuffers(Mutex<Option<VerifyBuffer>>);

struct VerifyBuffer {
    decompressor: Decompressor,
    plain: Buffer,
}

impl VerifyBuffer {
    fn new() -> Result<Self, RepoError> {
        Ok(Self {
            decompressor: Decompressor::new().map_err(RepoError::Compress)?,
            plain: Buffer::default(),
        })
    }
}

/// By default, one in this many runs is verified.
const VERIFIED_ONE_IN: u64 = 16;

/// Which runs of new packs are opened again before the packs are stored. The blobs in these runs
/// are compared with their ids.
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
    pub const SOME_RUNS: Self = Self::one_in(VERIFIED_ONE_IN);
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
    pub(super) fn disturbed(self, mut parts: Vec<Part>) -> Vec<Part> {
        if let Some(byte) = parts.last_mut().and_then(|part| part.last_mut())
            && self.flips
        {
            *byte ^= 1;
        }
        parts
    }

    #[cfg(not(feature = "testing"))]
    #[expect(clippy::unused_self, reason = "the version for tests uses `self`")]
    pub(super) fn disturbed(self, parts: Vec<Part>) -> Vec<Part> {
        parts
    }

    /// Verifies the runs of a pack that `self` selects. `first` is the number of runs of chunks in
    /// earlier packs. `parts` are the sealed runs, in the order of `contents`. Afterwards they have
    /// the same bytes as before. Fails with [`RepoError::BadMemory`] if a run does not open, or if
    /// a blob does not have its id.
    pub(super) fn verify(
        self,
        project: &Project,
        cipher: &PackCipher,
        contents: &Contents,
        parts: &mut [Part],
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
            plain,
        } = match &mut *buffers {
            Some(buffer) => buffer,
            none => none.insert(VerifyBuffer::new()?),
        };
        let mut runs = (0..).zip(&contents.runs);
        for part in parts {
            let mut rest = &mut part[..];
            while !rest.is_empty() {
                let (ordinal, run) = runs.next().ok_or(RepoError::BadMemory)?;
                let len = run.stored_len as usize;
                let (stored, behind) =
                    rest.split_at_mut_checked(len).ok_or(RepoError::BadMemory)?;
                rest = behind;
                if !(first + ordinal).is_multiple_of(one_in) {
                    continue;
                }
                let verify = |content: &[u8]| {
                    plain.resize(run.plain_len());
                    decompressor
                        .decode(run.codec, content, plain)
                        .map_err(|_| RepoError::BadMemory)?;
                    verify_blobs(project, contents.kind, run, plain)
                };
                open_and_seal(cipher, ordinal, run, &bound, stored, verify)?;
            }
        }
        Ok(())
    }
}

/// Verifies that this is the plain content of a run: each blob in it must have its id.
fn verify_blobs(
    project: &Project,
    kind: BlobKind,
    run: &Run,
    mut plain: &[u8],
) -> Result<(), RepoError> {
    for blob in &run.blobs {
        let (content, behind) = plain
            .split_at_checked(blob.plain_len as usize)
            .ok_or(RepoError::BadMemory)?;
        plain = behind;
        let id = match kind {
            BlobKind::Chunk => project.chunk_keys()?.id(content),
            BlobKind::Node => project.keys.node_id(content),
        };
        if id != blob.id {
            return Err(RepoError::BadMemory);
        }
    }
    Ok(())
}

/// Opens a sealed run in place, so that no copy takes memory. Passes its content to `verify`, and
/// then seals it again, which gives the same bytes.
fn open_and_seal(
    cipher: &PackCipher,
    ordinal: u64,
    run: &Run,
    bound: &[u8],
    sealed: &mut [u8],
    verify: impl FnOnce(&[u8]) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let descriptor = run.descriptor();
    let before: [u8; TAG_LEN] = *sealed.last_chunk().ok_or(RepoError::BadMemory)?;
    let opened = cipher.open_in_place(ordinal, &descriptor, bound, sealed);
    verify(opened.map_err(|_| RepoError::BadMemory)?)?;
    let (content, tag) = sealed.split_last_chunk_mut().ok_or(RepoError::BadMemory)?;
    *tag = cipher.seal_in_place(ordinal, &descriptor, bound, content);
    // The tag covers all bytes of the run.
    if *tag == before {
        Ok(())
    } else {
        Err(RepoError::BadMemory)
    }
}

impl Default for VerifyWrites {
    fn default() -> Self {
        Self::SOME_RUNS
    }
}

//! Where a blob is stored: pack, run, and place in the run.

use std::ops::Range;
use std::sync::Arc;

use crate::base::{ObjectHash, ProjectId, SignerId};
use crate::format::{Blob, BlobKind, PACK_HEAD_LEN, PackKey, PackListing, Run};
use crate::repo::object_ref::ObjectRef;

/// A run and its place in a pack.
#[derive(Debug)]
pub struct PlacedRun {
    pub(super) pack: ObjectHash,
    pub(super) random: [u8; 16],
    pub(super) signer: SignerId,
    /// Whether its blobs count for deduplication.
    pub(super) trusted: bool,
    /// Whether the pack counts: not only superseded segments name it. See `NamedRow::counts` of the
    /// index.
    pub(super) counts: bool,
    pub(super) kind: BlobKind,
    pub(super) key: PackKey,
    pub(super) ordinal: u64,
    pub(super) offset: u64,
    pub(super) run: Run,
}

/// The place of a blob, and the data needed to open it.
#[derive(Debug, Clone)]
pub struct BlobLocation {
    run: Arc<PlacedRun>,
    blob: usize,
}

impl PlacedRun {
    /// Returns all runs of a pack, in order. Their blobs do not count for deduplication.
    pub fn all_of(listing: PackListing) -> impl Iterator<Item = Arc<Self>> {
        let PackListing {
            pack,
            random,
            signer,
            contents,
        } = listing;
        let kind = contents.kind;
        let mut next = PACK_HEAD_LEN as u64;
        (0..).zip(contents.runs).map(move |(ordinal, run)| {
            let offset = next;
            next += u64::from(run.stored_len);
            Arc::new(Self {
                pack,
                random,
                signer,
                trusted: false,
                counts: true,
                kind,
                key: contents.key.clone(),
                ordinal,
                offset,
                run,
            })
        })
    }

    /// The range of the stored run in the pack, in bytes.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.run.stored_len)
    }

    /// The ordinal of the run in the pack.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// The pack as an object of this project.
    #[must_use]
    pub fn object(&self, project: ProjectId) -> ObjectRef {
        ObjectRef::of_pack(project, self.kind, self.pack)
    }

    /// The locations of its blobs, in order.
    pub fn locations(self: &Arc<Self>) -> impl Iterator<Item = BlobLocation> {
        (0..self.run.blobs.len()).map(|blob| BlobLocation {
            run: Arc::clone(self),
            blob,
        })
    }

    /// The location of the blob with this number in the run. `None` if the run has fewer blobs.
    pub(super) fn location(self: &Arc<Self>, blob: usize) -> Option<BlobLocation> {
        self.run.blobs.get(blob)?;
        Some(BlobLocation {
            run: Arc::clone(self),
            blob,
        })
    }
}

impl BlobLocation {
    /// The id of the pack.
    #[must_use]
    pub fn pack(&self) -> ObjectHash {
        self.run.pack
    }

    /// The pack as an object of this project.
    #[must_use]
    pub fn object(&self, project: ProjectId) -> ObjectRef {
        self.run.object(project)
    }

    /// The signer of the pack.
    #[must_use]
    pub fn signer(&self) -> SignerId {
        self.run.signer
    }

    /// The key from which the keys of the pack's runs derive.
    #[must_use]
    pub fn key(&self) -> &PackKey {
        &self.run.key
    }

    /// Whether the blob counts for deduplication.
    pub(super) fn is_trusted(&self) -> bool {
        self.run.trusted
    }

    /// Whether the pack counts: not only superseded segments name it. See `NamedRow::counts` of the
    /// index.
    pub(super) fn counts(&self) -> bool {
        self.run.counts
    }

    /// The pack's random bytes.
    #[must_use]
    pub fn random(&self) -> [u8; 16] {
        self.run.random
    }

    /// The kind of all blobs in the pack.
    #[must_use]
    pub fn kind(&self) -> BlobKind {
        self.run.kind
    }

    /// The ordinal of its run in the pack.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        self.run.ordinal
    }

    /// Its run.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run.run
    }

    /// The range of its stored run in the pack, in bytes.
    #[must_use]
    pub fn run_range(&self) -> Range<u64> {
        self.run.range()
    }

    /// The blob.
    #[must_use]
    pub fn blob(&self) -> &Blob {
        &self.run().blobs[self.blob]
    }

    /// The range of the blob in its opened run, in bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        let before = &self.run().blobs[..self.blob];
        let start: usize = before.iter().map(|blob| blob.plain_len as usize).sum();
        start..start + self.blob().plain_len as usize
    }

    /// The number of the blob in its run.
    #[must_use]
    pub fn number(&self) -> usize {
        self.blob
    }

    /// The locations of all blobs in the same run, in order.
    pub fn all_in_run(&self) -> impl Iterator<Item = Self> {
        self.run.locations()
    }

    /// Returns its run, for the cache of recent runs.
    pub(super) fn placed(&self) -> &Arc<PlacedRun> {
        &self.run
    }
}

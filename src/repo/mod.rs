//! Repositories: objects in a store, packs, the index, trees, backup records, leases and marks.

mod audits;
mod backup;
mod batches;
mod blobs;
mod cache_dir;
mod certificates;
mod change_settings;
mod codec;
mod envelope;
mod error;
mod history;
mod image_reader;
mod index;
mod init;
mod key_admin;
mod keyless;
mod keys;
mod leases;
mod ledger;
mod location;
mod log;
mod no_backup;
mod object_cache;
mod object_kind;
mod object_ref;
mod objects;
mod pack_listing;
mod pack_memory;
mod packs;
mod parallel;
mod parity;
mod project;
mod prune_guard;
mod quarantine;
mod removals;
mod repository;
mod sealed;
mod sessions;
mod settings;
mod signers;
mod tree;
mod unlock;
mod unneeded_parity;
mod voids;
mod watch;
mod writers;

/// The parameters of the key derivation, exported here because front ends must not import `crypto`.
pub use crate::crypto::{KdfParams, KdfParamsError};
/// The signatures of reports, exported here because front ends must not import `crypto`.
pub use crate::crypto::{ReportError, ReportKey, verify_report};

pub use audits::Audits;
pub use backup::Backup;
pub use blobs::{
    BlobReader, Opener, ReadSession, damaged_among, exclude_damaged, lease_for_reading,
    still_damaged,
};
pub use cache_dir::CacheDir;
pub use certificates::{Certificates, Certified};
pub use codec::{Compression, Compressor};
pub use envelope::Signed;
pub use error::{Damage, ForeignReason, RepoError, RepoErrorKind};
pub use history::{ForgottenRecord, History, HistoryEnds, HistoryEntry, OrderedRecord, Records};
pub use image_reader::{ChunkFetcher, ContentExtent, ImageReader, RunCache};
pub use index::{
    CacheState, Index, IndexContent, KnownDamage, ListedPack, LostChunks, Rewritten,
    UnreadableSegments,
};
pub use init::InitOptions;
pub use key_admin::Grant;
pub use keyless::{
    authority, authority_of, projects, read_stored, read_verified, repository_id, repository_ids,
    verify_stored, verify_unnamed,
};
pub use keys::{KeyScope, KeySummary, LastKey, NewKey};
pub use leases::{Lease, Leases, Mark, Marks, OtherLease, Work, Worker};
pub use ledger::{Ledger, NewLedgerEntry, new_seed, order_by_seed, since_1970};
pub use location::{BlobLocation, PlacedRun};
pub use log::{Log, LogHead, NewEntry, PublicLog, Removed, removed_record};
pub use no_backup::{LostRecord, NewestReadable, NoBackupReason};
pub use object_kind::{KindInfo, ObjectKind, SealedWith};
pub use object_ref::ObjectRef;
pub use objects::Objects;
pub use pack_listing::{listing_of, read_listing, read_whole, read_whole_with};
pub use packs::{
    IndexStored, PackSizes, PackWorker, Packer, PackerOptions, PackerReport, Pending, RunLen,
    UnindexedPacks, VerifyWrites,
};
pub use parity::{Restored, is_protected, parity_len, parity_of, protects, rebuild, restore};
pub use project::Project;
pub use prune_guard::{CommitCheck, CommitPermit, PruneGuard};
pub use quarantine::{quarantine, read_damaged};
pub use repository::Repository;
pub use signers::Signers;
pub use tree::{
    ChunkRef, ContentPart, ContentTree, Difference, ImageTree, NodeReader, NodeStore, PackedNodes,
    StreamTree, Top, Visitor, any_chunk, children, compare_trees, count_chunks, different_ranges,
    leaf_chunks, walk,
};
pub use unlock::{Locked, OpenedKey};
pub use unneeded_parity::unneeded_parity;
pub use voids::Voids;

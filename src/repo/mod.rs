//! Repositories: objects in a store, packs, the index, trees, backup records, leases and marks.

mod audits;
mod backup;
mod blobs;
mod bundle;
mod cache_dir;
mod certificates;
mod codec;
mod envelope;
mod error;
mod fetch;
mod fetch_nodes;
mod forgotten_record;
mod gaps;
mod history_ends;
mod index;
mod init;
mod key_admin;
mod keys;
mod last_key;
mod lease;
mod lease_watch;
mod log;
mod lost_records;
mod marks;
mod no_backup;
mod object_cache;
mod object_kind;
mod object_ref;
mod objects;
mod order;
mod pack_context;
mod pack_listing;
mod packs;
mod parallel;
mod process;
mod project;
mod prune_guard;
mod read_session;
mod reader;
mod records;
mod removals;
mod repository;
mod revocation;
mod run_cache;
mod sealed;
mod select_surely;
mod sessions;
mod settings;
mod signers;
mod tree;
mod trial;
mod unlock;
mod voids;
mod writers;

/// The parameters of the key derivation. Front ends do not import `crypto`.
pub use crate::crypto::{KdfParams, KdfParamsError};

pub use audits::Audits;
pub use backup::Backup;
pub use blobs::{BlobReader, Opener};
pub use cache_dir::CacheDir;
pub use certificates::{Certificates, Certified};
pub use codec::{Compression, Compressor};
pub use envelope::Signed;
pub use error::{Damage, ForeignReason, RepoError, RepoErrorKind};
pub use fetch::ChunkFetcher;
pub use forgotten_record::ForgottenRecord;
pub use history_ends::HistoryEnds;
pub use index::{BlobLocation, CacheState, Index, ListedPack, LostChunks, PlacedRun, Rewritten};
pub use init::InitOptions;
pub use key_admin::Grant;
pub use keys::{KeyScope, KeySummary, NewKey};
pub use last_key::LastKey;
pub use lease::{Lease, Leases, OtherLease, Work, Worker};
pub use log::{Log, LogHead, NewEntry, Removed, removed_record};
pub use marks::{Mark, Marks};
pub use no_backup::{LostRecord, NewestReadable, NoBackupReason};
pub use object_kind::{KindInfo, ObjectKind, SealedWith};
pub use object_ref::ObjectRef;
pub use objects::Objects;
pub use order::{History, HistoryEntry, OrderedRecord};
pub use pack_listing::{listing_of, read_listing, read_whole};
pub use packs::{
    IndexStored, PackSizes, PackWorker, Packer, PackerOptions, PackerReport, Pending, RunLen,
    UnindexedPacks, VerifyWrites,
};
pub use project::Project;
pub use prune_guard::{CommitCheck, CommitPermit, PruneGuard};
pub use read_session::{ReadSession, lease_for_reading};
pub use reader::{ContentExtent, ImageReader};
pub use records::Records;
pub use repository::Repository;
pub use run_cache::RunCache;
pub use signers::Signers;
pub use tree::{
    ChunkRef, ContentPart, ContentTree, Difference, ImageTree, NodeReader, NodeStore, PackedNodes,
    StreamTree, Top, Visitor, any_chunk, children, compare_trees, count_chunks, different_ranges,
    leaf_chunks, walk,
};
pub use unlock::{Locked, OpenedKey};
pub use voids::Voids;

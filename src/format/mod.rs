//! Encoders and decoders of all objects in a repository, and of the diff streams and extent lists
//! of Ceph. Decoders may be given any bytes: they use bounded memory and never panic. Nothing here
//! needs a key.
//!
//! `docs/format.md` specifies the repository. The comments in this folder name the sections of that
//! page.

mod audit;
mod batch;
mod byte_string;
mod certificate;
mod contents;
mod error;
mod extents;
mod header;
mod image_metadata;
mod index;
mod json;
mod lease;
mod ledger;
mod log;
mod mark;
mod node;
mod pack;
mod parity;
mod project;
mod rbd;
mod record;
mod repository;
mod sealed;
mod settings;
mod slot;
mod time;
mod void;
mod wire;

pub use audit::{AuditBody, AuditInfo};
pub use batch::{Batch, BatchedKind, BatchedObject, NewBatchedObject};
pub use byte_string::ByteString;
pub use certificate::{Certificate, matches_pattern};
pub use contents::{Contents, FoundRun, PackKey, SignedContents};
pub use error::FormatError;
pub use extents::{ExtentList, ExtentsError};
pub use header::{HEADER_LEN, Header, Magic};
pub use image_metadata::ImageMetadata;
pub use index::{IndexSegment, PackListing};
pub use lease::{LeaseBody, ProcessId};
pub use ledger::{
    AuditRun, DrillRun, LedgerBody, LedgerInfo, ReadPacks, ReadResult, VerifiedLevel,
};
pub use log::{
    LogDetails, LogEntry, LogItem, LogKind, OpenedEntry, RemovedRecord, Revoked, StoredEntry,
};
pub use mark::MarkBody;
pub use node::{Children, Node, StreamEntries, StreamEntry, image_levels, root_description};
pub use pack::{
    Blob, BlobKind, Codec, NONCE_LEN, PACK_HEAD_LEN, PACK_SIZE_MAX, PACK_TAIL_LEN, PackHead,
    RUN_BLOBS_MAX, RUN_PLAIN_MAX, Run,
};
pub use parity::{ParityHeader, ParityObject, ShardSum};
pub use project::ProjectObject;
pub use rbd::{
    CutIn, DiffBase, DiffError, DiffErrorKind, DiffField, DiffHeader, DiffPlace, DiffReader,
    DiffVersion, DiffWriter, Extent, ExtentKind, ImageDescription, begins_as_diff,
};
pub use record::{
    Attachment, BackupRecord, Content, ContentKind, Counts, RbdIdentity, RbdImage, SourceInfo,
    VolumeInfo,
};
pub use repository::RepositoryFile;
pub use sealed::{Payload, SealedObject, SignedPayload};
pub use settings::ProjectSettings;
pub use slot::{KeySlot, Scope, SlotInfo, SlotLock, SlotParams};
pub use time::RecordTime;
pub use void::VoidBody;

//! Packs and index segments as the log names them.

use crate::base::ObjectHash;
use crate::format::{BlobKind, LogItem, LogKind};
use crate::repo::ListedPack;

/// Returns a pack as the log names it.
pub(super) const fn pack_item(pack: &ListedPack) -> LogItem {
    item_of_pack(pack.kind, pack.hash)
}

/// Returns the pack with this hash and with blobs of this kind, as the log names it.
pub(super) const fn item_of_pack(kind: BlobKind, hash: ObjectHash) -> LogItem {
    let kind = match kind {
        BlobKind::Chunk => LogKind::ChunkPack,
        BlobKind::Node => LogKind::TreePack,
    };
    LogItem { kind, hash }
}

/// Returns an index segment as the log names it.
pub(super) const fn segment_item(hash: ObjectHash) -> LogItem {
    let kind = LogKind::Segment;
    LogItem { kind, hash }
}

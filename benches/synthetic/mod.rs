//! Synthetic chunks and packs that exist only as names, to measure large indexes and prunes.

use cuttlebone::base::{BlobId, ObjectHash, SignerId};
use cuttlebone::format::{Blob, BlobKind, Codec, Contents, PackKey, PackListing, Run};

/// The number of chunks in a pack. This number and the next two are as in a backup of an operating
/// system.
pub(crate) const PACK_CHUNKS: u64 = 1_280;
/// The number of packs in a segment.
pub(crate) const SEGMENT_PACKS: u64 = 16;
/// The number of chunks in a run.
pub(crate) const RUN_CHUNKS: u64 = 64;

/// Returns the id of the chunk with this number.
pub(crate) fn id(n: u64) -> BlobId {
    BlobId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// Returns the listing of the pack with this number, from 0. No two packs have a chunk in common.
pub(crate) fn pack(number: u64, signer: SignerId) -> PackListing {
    let first = number * PACK_CHUNKS;
    let blob = |n| Blob {
        plain_len: 64 << 10,
        id: id(n),
    };
    let run = |n: u64| Run {
        codec: Codec::Zstd,
        stored_len: 1 << 20,
        check: [0; 16],
        blobs: (n..n + RUN_CHUNKS).map(blob).collect(),
    };
    let runs = (0..PACK_CHUNKS / RUN_CHUNKS)
        .map(|r| run(first + r * RUN_CHUNKS))
        .collect();
    PackListing {
        pack: ObjectHash::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes()),
        random: [0; 16],
        signer,
        contents: Contents {
            kind: BlobKind::Chunk,
            key: PackKey::Project,
            gap: 0,
            runs,
        },
    }
}

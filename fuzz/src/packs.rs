//! Packs, index segments and nodes: sections 8 to 10 of `docs/format.md`.

use std::sync::Arc;

use cuttlebone::base::{BlobId, ObjectHash, Silent};
use cuttlebone::format::{
    BlobKind, Contents, IndexSegment, Magic, Node, PACK_SIZE_MAX, PackHead, PackListing,
};
use cuttlebone::repo::{BlobLocation, Index, ObjectRef, PlacedRun, listing_of, read_listing};
use cuttlebone::storage::MemoryBackend;

use crate::fixture::{self, Fixture, PROJECT, fixture, hash};

/// If the contents state at most this size in bytes for their pack, the target also reads a
/// complete pack. Its runs have the stated lengths, and consist of zeros.
const PACK_MAX: u64 = 1 << 20;
const RANDOM: [u8; 16] = [9; 16];

/// Decodes the data as the head of a pack, as its contents and as a whole pack. Also reads
/// authentic packs that have the data as contents.
pub fn pack(data: &[u8]) {
    if let Some(first) = data.first_chunk()
        && let Ok(head) = PackHead::decode(first)
    {
        assert_eq!(head.encode(), *first);
    }
    let contents = Contents::decode(data, None);
    if let Ok(contents) = &contents {
        assert_eq!(contents.encode(), data);
        assert_eq!(contents.sealed_len(), 24 + data.len() + 128 + 16);
    }
    fixture(|f| {
        let store = f.fresh_store();
        let kind = contents
            .as_ref()
            .map_or(BlobKind::Chunk, |contents| contents.kind);
        let reads = |bytes: &[u8]| both_ways(f, &store, kind, bytes);
        reads(data);

        let authentic = |runs: &[u8]| fixture::pack_with(&f.keys, RANDOM, runs, data);
        reads(&authentic(&[]));
        if let Ok(contents) = &contents
            && contents.pack_size() <= PACK_MAX
        {
            let runs = contents.runs.iter().map(|run| run.stored_len as usize);
            let len = runs.sum::<usize>() + contents.gap as usize;
            assert!(reads(&authentic(&vec![0; len])));
        }
    });
}

/// Reads the listing of a pack from its bytes and from the store. Returns whether the pack has a
/// listing.
fn both_ways(f: &Fixture, store: &MemoryBackend, kind: BlobKind, bytes: &[u8]) -> bool {
    let name = ObjectHash::from_bytes(hash(bytes));
    let object = ObjectRef::of_pack(PROJECT, kind, name);
    fixture::put(store, object, bytes);
    let size = bytes.len() as u64;
    let whole = listing_of(&f.project, object, bytes);
    for stated in [None, Some(size), Some(size + 1), Some(u64::MAX)] {
        let ranged = read_listing(&f.project, object, stated);
        match (&whole, &ranged) {
            (Ok(whole), Ok(ranged)) => assert_eq!(whole, ranged),
            (Ok(_), Err(_)) => assert!(stated.is_some_and(|stated| stated != size)),
            (Err(whole), Err(ranged)) if stated.is_none_or(|stated| stated == size) => {
                assert_eq!(whole.kind(), ranged.kind());
            }
            (Err(_), Err(_)) => {}
            (Err(_), Ok(_)) => panic!("`read_listing` accepts a pack that `listing_of` refuses"),
        }
    }
    whole.is_ok()
}

/// Decodes an index segment, and reads an authentic one into an index.
pub fn index_segment(data: &[u8]) {
    let Ok(segment) = IndexSegment::decode(data) else {
        return;
    };
    assert_eq!(segment.encode(), data);
    fixture(|f| {
        let store = f.fresh_store();
        let bytes = fixture::sealed_body(&f.keys, Magic::Index, data);
        let name = ObjectHash::from_bytes(hash(&bytes));
        fixture::put(&store, ObjectRef::Index(PROJECT, name), &bytes);
        let index = Index::in_memory(&f.project, Arc::new(Silent)).expect("the store is undamaged");
        for listing in segment.packs.iter().take(16) {
            assert!(index.has_pack(&listing.pack).expect("it is in memory"));
            let places = PlacedRun::all_of(listing.clone()).map(|run| run.locations().count());
            assert_eq!(places.sum::<usize>(), listing.contents.blobs().count());
            for blob in listing.contents.blobs().take(16) {
                match index.find_readable(&blob.id).expect("it is in memory") {
                    Some(found) => check_location(&found, &blob.id),
                    None => assert!(
                        ambiguous(&segment, listing, &blob.id),
                        "the index lacks a blob that the segment names"
                    ),
                }
                for place in index.find_all_readable(&blob.id).expect("it is in memory") {
                    check_location(&place, &blob.id);
                }
            }
        }
    });
}

/// Returns whether the index may lack a blob of this pack. This happens if the segment names the
/// pack twice with different contents. It also happens if so many ids begin with the same 16 bytes
/// that the index does not try all of them. Only an attacker can make such ids.
fn ambiguous(segment: &IndexSegment, listing: &PackListing, id: &BlobId) -> bool {
    let mut same = segment.packs.iter().filter(|p| p.pack == listing.pack);
    let blobs = segment.packs.iter().flat_map(|p| p.contents.blobs());
    let alike = blobs.filter(|b| b.id.as_bytes()[..16] == id.as_bytes()[..16]);
    same.any(|pack| pack != listing) || alike.count() > 64
}

/// Asserts that a blob is within its run, and the run within its pack.
fn check_location(location: &BlobLocation, id: &BlobId) {
    assert_eq!(location.blob().id, *id);
    assert!(location.range().end <= location.run().plain_len());
    assert!(location.run_range().end <= PACK_SIZE_MAX);
}

/// Decodes the data as a tree node.
pub fn node(data: &[u8]) {
    let Ok(node) = Node::decode(data) else {
        return;
    };
    assert!(data.len() <= Node::LEN_MAX);
    let mut out = Vec::new();
    match node {
        Node::Children(children) => children.encode_into(&mut out),
        Node::Stream(stream) => stream.encode_into(&mut out),
    }
    assert_eq!(out, data);
}

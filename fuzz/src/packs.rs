//! Packs, index segments and nodes: sections 8 to 10 of `docs/format.md`.

use cuttlebone::base::{ObjectHash, Silent};
use cuttlebone::crypto::PackNonce;
use cuttlebone::format::{Entry, IndexSegment, Magic, Node, PackHead, Trailer};
use cuttlebone::repo::{Index, ObjectRef, listing_of, read_listing};
use cuttlebone::storage::MemoryBackend;

use crate::fixture::{self, Fixture, PROJECT, fixture, hash};

/// Packs that are no longer get the bytes that their trailer promises.
const PACK_MAX: u64 = 1 << 20;
const NONCE: [u8; 16] = [9; 16];

/// The head, entry and trailer of a pack; a pack as it comes; and an authentic one with this trailer.
pub fn pack(data: &[u8]) {
    if let Some(first) = data.first_chunk()
        && let Ok(head) = PackHead::decode(first)
    {
        assert_eq!(head.encode(), *first);
    }
    if let Some(first) = data.first_chunk()
        && let Ok(entry) = Entry::decode(first)
    {
        assert_eq!(entry.encode(), *first);
    }
    let trailer = Trailer::decode(data);
    if let Ok(trailer) = &trailer {
        assert_eq!(Trailer::encode(&trailer.entries), data);
    }
    fixture(|f| {
        let store = f.fresh_store();
        both_ways(f, &store, data);

        let cipher = f.keys.pack_cipher(PackNonce::from_bytes(NONCE));
        let authentic = |blobs| fixture::pack_with(&cipher, NONCE, blobs, data.to_vec());
        both_ways(f, &store, &authentic(&[]));
        if let Ok(Trailer { entries }) = &trailer
            && Trailer::pack_size(entries) <= PACK_MAX
        {
            let len: usize = entries.iter().map(|e| e.stored_len as usize).sum();
            assert!(both_ways(f, &store, &authentic(&vec![0; len])));
        }
    });
}

/// Reads a pack's listing from its bytes and from the store; whether it has one.
fn both_ways(f: &Fixture, store: &MemoryBackend, bytes: &[u8]) -> bool {
    let name = ObjectHash::from_bytes(hash(bytes));
    fixture::put(store, ObjectRef::Pack(PROJECT, name), bytes);
    let size = bytes.len() as u64;
    let whole = listing_of(&f.project, name, bytes);
    for stated in [None, Some(size), Some(size + 1), Some(u64::MAX)] {
        let ranged = read_listing(&f.project, name, stated);
        match (&whole, &ranged) {
            (Ok(whole), Ok(ranged)) => assert_eq!(whole, ranged),
            (Ok(_), Err(_)) => assert!(stated.is_some_and(|stated| stated != size)),
            (Err(whole), Err(ranged)) if stated.is_none_or(|stated| stated == size) => {
                assert_eq!(whole.kind(), ranged.kind());
            }
            (Err(_), Err(_)) => {}
            (Err(_), Ok(_)) => panic!("the store's reader is less strict"),
        }
    }
    whole.is_ok()
}

/// An index segment; and an authentic one, taken into an index.
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
        let index = Index::in_memory(&f.project, &Silent).expect("it is whole");
        for listing in segment.packs.iter().take(16) {
            assert!(index.has_pack(&listing.pack).expect("memory"));
            for entry in listing.entries.iter().take(16) {
                let _ = index.find(&entry.id).expect("memory");
                let _ = index.find_all(&entry.id).expect("memory");
            }
        }
    });
}

/// A tree node.
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

//! A whole repository, written by an attacker who has the keys.
//!
//! The input is a flag byte and then items: a tag byte, a length (`u16`), and that number of bytes.
//! An item is a blob, an index segment or a record. Ids are MACs, so the input cannot contain them;
//! it refers to earlier blobs instead, see [`Repo::resolve`].

mod read;

use cuttlebone::base::{BlobId, ObjectHash, Root, VolumeId};
use cuttlebone::crypto::ProjectKeys;
use cuttlebone::format::{
    BackupRecord, Blob, BlobKind, Codec, Content, ContentKind, Counts, IndexSegment, Magic,
    MarkBody, Node, PackListing, RecordTime, VolumeInfo,
};
use cuttlebone::repo::ObjectRef;
use cuttlebone::storage::MemoryBackend;

use crate::fixture::{self, Fixture, PROJECT, PlainRun, fixture, hash};
use crate::texts::set_root;
pub(crate) use read::Reach;

/// The segment that correctly lists all packs is left out.
pub(crate) const NO_SEGMENT: u8 = 1;
/// There is a segment that cannot be decrypted. So the index reads the listings in the packs.
pub(crate) const BAD_SEGMENT: u8 = 2;
/// There are two packs with the same nodes. In the first pack, the first blob is damaged. The
/// second pack is intact.
pub(crate) const DAMAGED_COPY: u8 = 4;
/// The last byte of the pack of chunks is missing.
pub(crate) const CUT_PACK: u8 = 8;

/// The runs of chunks are compressed.
pub(crate) const COMPRESSED: u8 = 16;
/// A mark names all packs, and all segments that can be decrypted.
pub(crate) const MARKED: u8 = 32;

/// The bytes of a node, stored uncompressed.
pub(crate) const NODE: u8 = 0;
/// The bytes of a node, stored compressed if that saves space.
pub(crate) const NODE_ZSTD: u8 = 1;
/// The bytes of a chunk, stored uncompressed unless [`COMPRESSED`] is set.
pub(crate) const CHUNK: u8 = 2;
/// A `u16` plain length and a Zstandard frame, which may be invalid.
pub(crate) const CHUNK_ZSTD: u8 = 3;
/// The body of an index segment.
pub(crate) const SEGMENT: u8 = 4;
/// The body of a record.
pub(crate) const RECORD: u8 = 5;
/// A record of an image: `u64` size, `u8` binary logarithm of the chunk size, `u8` top. The top is
/// the number of a blob, modulo the number of blobs; 255 stands for no top.
pub(crate) const IMAGE: u8 = 6;
/// A record of a stream: `u64` size, `u8` top (as in [`IMAGE`]).
pub(crate) const STREAM: u8 = 7;
/// Flag of a blob: its id is not the id that its bytes have.
pub(crate) const LIE: u8 = 0x80;

/// Flag of a blob: it is in the same run as the previous blob of its kind, if neither of the two is
/// compressed.
pub(crate) const JOIN: u8 = 0x40;

/// Maximum number of items. Further items are ignored.
const ITEMS_MAX: usize = 64;

/// The objects of the repository.
#[derive(Default)]
struct Repo {
    nodes: Vec<PlainRun>,
    chunks: Vec<PlainRun>,
    ids: Vec<BlobId>,
    segments: Vec<Vec<u8>>,
    records: Vec<BackupRecord>,
    plain_records: Vec<Vec<u8>>,
}

/// Makes the repository that the bytes describe and reads it in every possible way.
pub fn hostile_repository(data: &[u8]) {
    run(data);
}

/// Does the same as [`hostile_repository`], and returns how much could be read.
pub(crate) fn run(data: &[u8]) -> Reach {
    let Some((flags, items)) = data.split_first() else {
        return Reach::default();
    };
    fixture(|f| {
        let mut repo = Repo::default();
        let mut rest = items;
        for _ in 0..ITEMS_MAX {
            let Some((tag, body)) = take_item(&mut rest) else {
                break;
            };
            repo.add(&f.keys, tag, body);
        }
        let store = f.fresh_store();
        repo.store(f, &store, *flags);
        read::all(f)
    })
}

fn take_item<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, low, high], behind) = rest.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes([low, high])).min(behind.len());
    let (body, behind) = behind.split_at(len);
    *rest = behind;
    Some((tag, body))
}

impl Repo {
    fn add(&mut self, keys: &ProjectKeys, tag: u8, body: &[u8]) {
        match tag % 8 {
            kind @ (NODE | NODE_ZSTD) => {
                let plain = self.with_references(body);
                let mut run = PlainRun::raw(keys.node_id(&plain), &plain);
                if kind == NODE_ZSTD {
                    run.compress();
                }
                self.run(BlobKind::Node, tag, run);
            }
            CHUNK => {
                let run = PlainRun::raw(chunk_id(keys, body), body);
                self.run(BlobKind::Chunk, tag, run);
            }
            CHUNK_ZSTD => {
                let Some((len, content)) = body.split_first_chunk() else {
                    return;
                };
                let len = u16::from_le_bytes(*len);
                // The plain bytes are not known here. So the blob gets the id of a chunk of zeros
                // that has the plain length of the blob.
                let blob = Blob {
                    plain_len: len.into(),
                    id: chunk_id(keys, &vec![0; len.into()]),
                };
                let run = PlainRun::new(Codec::Zstd, blob, content.to_vec());
                self.run(BlobKind::Chunk, tag, run);
            }
            SEGMENT => self.segments.push(body.to_vec()),
            RECORD => match BackupRecord::decode(body) {
                Ok(mut record) => {
                    record.content.top = record.content.top.map(|top| self.resolve(top));
                    self.records.push(record);
                }
                Err(_) => self.plain_records.push(body.to_vec()),
            },
            IMAGE => {
                if let Some((size, &[log, top])) = body.split_first_chunk() {
                    let size = u64::from_le_bytes(*size);
                    self.record(ContentKind::Image, size, 1 << (log % 32), top);
                }
            }
            _ => {
                if let Some((size, &[top])) = body.split_first_chunk() {
                    self.record(ContentKind::Stream, u64::from_le_bytes(*size), 0, top);
                }
            }
        }
    }

    /// Adds a run of one blob, or with [`JOIN`], adds the blob to the last run of its kind. Ignores
    /// an empty run.
    fn run(&mut self, kind: BlobKind, tag: u8, mut run: PlainRun) {
        if run.content.is_empty() {
            return;
        }
        let blob = &mut run.run.blobs[0];
        let mut id = *blob.id.as_bytes();
        id[5] ^= u8::from(tag & LIE != 0);
        blob.id = BlobId::from_bytes(id);
        self.ids.push(blob.id);
        let runs = match kind {
            BlobKind::Node => &mut self.nodes,
            BlobKind::Chunk => &mut self.chunks,
        };
        let alone = match runs.last_mut() {
            Some(last) if tag & JOIN != 0 => last.join(run),
            _ => Err(run),
        };
        runs.extend(alone.err());
    }

    fn record(&mut self, kind: ContentKind, size: u64, chunk_size: u32, top: u8) {
        let top = (top != u8::MAX).then(|| self.resolve(reference(top)));
        let time: RecordTime = "2026-11-21T12:00:00Z".parse().expect("a time");
        self.records.push(BackupRecord {
            requires: Vec::new(),
            volume: VolumeInfo {
                id: VolumeId::from_bytes([0xab; 16]),
                name: "disk".into(),
            },
            content: Content {
                kind,
                size,
                chunk_size,
                top,
                root: Root::from_bytes([0; 32]),
            },
            time: time.clone(),
            finished: time,
            host: None,
            base: None,
            follows: Vec::new(),
            replaces: None,
            original: None,
            heads: Vec::new(),
            marks: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            source: None,
            attachments: Vec::new(),
            counts: Counts::default(),
            tool: None,
        });
    }

    /// Returns the id of the blob that `id` refers to. The number of this blob is the first byte of
    /// `id`, modulo the number of blobs. If the last byte of `id` is odd, or if there are no blobs,
    /// returns `id` itself. No pack has a blob with this id.
    fn resolve(&self, id: BlobId) -> BlobId {
        let bytes = id.as_bytes();
        match self.ids.len() {
            0 => id,
            _ if bytes[31] % 2 == 1 => id,
            count => self.ids[usize::from(bytes[0]) % count],
        }
    }

    /// Returns the bytes of a node with its references resolved. Returns bytes that are not a node
    /// unchanged.
    fn with_references(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match Node::decode(body) {
            Err(_) => return body.to_vec(),
            Ok(Node::Children(mut node)) => {
                for id in node.ids.iter_mut().flatten() {
                    *id = self.resolve(*id);
                }
                node.encode_into(&mut out);
            }
            Ok(Node::Stream(mut node)) => {
                for id in node
                    .entries
                    .iter_mut()
                    .filter_map(|entry| entry.id.as_mut())
                {
                    *id = self.resolve(*id);
                }
                node.encode_into(&mut out);
            }
        }
        out
    }

    /// Stores the repository.
    fn store(mut self, f: &Fixture, store: &MemoryBackend, flags: u8) {
        let mut packs = Vec::new();
        let mut put_pack =
            |random: [u8; 16], kind, runs: &[PlainRun], spoil: &dyn Fn(&mut Vec<u8>)| {
                if runs.is_empty() {
                    return;
                }
                let mut bytes = fixture::pack(&f.keys, random, kind, runs);
                spoil(&mut bytes);
                let pack = name(&bytes);
                fixture::put(store, ObjectRef::of_pack(PROJECT, kind, pack), &bytes);
                packs.push(PackListing {
                    pack,
                    random,
                    signer: *f.keys.authority(),
                    contents: fixture::contents(kind, runs),
                });
            };
        if flags & DAMAGED_COPY != 0 {
            put_pack([1; 16], BlobKind::Node, &self.nodes, &|bytes| {
                bytes[32] ^= 1;
            });
        }
        put_pack([2; 16], BlobKind::Node, &self.nodes, &|_| {});
        if flags & COMPRESSED != 0 {
            self.chunks.iter_mut().for_each(PlainRun::compress);
        }
        put_pack([3; 16], BlobKind::Chunk, &self.chunks, &|bytes| {
            if flags & CUT_PACK != 0 {
                bytes.pop();
            }
        });
        let mut segments = Vec::new();
        let put_segment = |body: &[u8]| {
            let bytes = fixture::sealed_body(&f.keys, Magic::Index, body);
            fixture::put(store, ObjectRef::Index(PROJECT, name(&bytes)), &bytes);
            name(&bytes)
        };
        if flags & NO_SEGMENT == 0 {
            let honest = IndexSegment {
                packs: packs.clone(),
                superseded: Vec::new(),
            };
            segments.push(put_segment(&honest.encode()));
        }
        for body in &self.segments {
            segments.push(put_segment(&self.segment(&packs, &segments, body)));
        }
        if flags & MARKED != 0 {
            let body = mark(&packs, &segments).encode();
            let bytes = fixture::sealed_body(&f.keys, Magic::Mark, &body);
            fixture::put(store, ObjectRef::Mark(PROJECT, name(&bytes)), &bytes);
        }
        if flags & BAD_SEGMENT != 0 {
            let bytes = b"damaged";
            fixture::put(store, ObjectRef::Index(PROJECT, name(bytes)), bytes);
        }
        let put_record = |body: &[u8]| {
            let bytes = fixture::sealed_body(&f.keys, Magic::Backup, body);
            fixture::put(store, ObjectRef::Backup(PROJECT, name(&bytes)), &bytes);
        };
        for mut record in self.records {
            set_root(f, &mut record);
            put_record(&record.encode());
        }
        for body in &self.plain_records {
            put_record(body);
        }
    }

    /// Replaces ids in a segment's body by those of packs, blobs and segments that exist. So the
    /// segment makes false statements about real objects. Ids that end with an odd byte stay. If
    /// the body cannot be decoded, returns it unchanged.
    fn segment(&self, packs: &[PackListing], earlier: &[ObjectHash], body: &[u8]) -> Vec<u8> {
        let Ok(mut segment) = IndexSegment::decode(body) else {
            return body.to_vec();
        };
        for listing in &mut segment.packs {
            let first = usize::from(listing.pack.as_bytes()[0]);
            if let Some(true) = packs
                .get(first)
                .map(|_| listing.pack.as_bytes()[31] % 2 == 0)
            {
                listing.pack = packs[first].pack;
                listing.random = packs[first].random;
            }
            let runs = &mut listing.contents.runs;
            for blob in runs.iter_mut().flat_map(|run| &mut run.blobs) {
                blob.id = self.resolve(blob.id);
            }
        }
        for superseded in &mut segment.superseded {
            let bytes = superseded.as_bytes();
            if bytes[31] % 2 == 0 && !earlier.is_empty() {
                *superseded = earlier[usize::from(bytes[0]) % earlier.len()];
            }
        }
        segment.encode()
    }
}

/// Returns a mark that names all packs and segments.
fn mark(packs: &[PackListing], segments: &[ObjectHash]) -> MarkBody {
    MarkBody {
        requires: Vec::new(),
        packs: packs.iter().map(|p| p.pack.to_string()).collect(),
        segments: segments.iter().map(ToString::to_string).collect(),
        records: Vec::new(),
        time: "2026-11-21T12:00:00Z".into(),
        host: None,
        tool: None,
    }
}

/// Returns the id of a chunk. The keys must be those of a full key.
fn chunk_id(keys: &ProjectKeys, plain: &[u8]) -> BlobId {
    keys.chunk_keys().expect("the keys are full").id(plain)
}

fn name(bytes: &[u8]) -> ObjectHash {
    ObjectHash::from_bytes(hash(bytes))
}

/// Returns the id that refers to the blob with this number.
pub(crate) fn reference(number: u8) -> BlobId {
    let mut id = [0; 32];
    id[0] = number;
    id[1] = 1; // In a stream, an id of zeros means that there is no id.
    BlobId::from_bytes(id)
}

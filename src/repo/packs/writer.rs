//! Stores full packs, and then the segments that name them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::super::error::RepoError;
use super::super::index::Index;
use super::super::leases;
use super::super::object_ref::ObjectRef;
use super::super::pack_listing::seal_contents;
use super::super::parallel::parallel_map;
use super::super::project::Project;
use super::full_pack::{FullPack, PackerOptions, ToWriter};
use super::part::Part;
use super::unindexed_packs::UnindexedPacks;
use super::verify::VerifyBuffers;
use crate::base::{BlobId, Cancelled, ObjectHash};
use crate::crypto::{ObjectHasher, PackCipher};
use crate::format::{BlobKind, IndexSegment, PACK_HEAD_LEN, PackHead, PackListing};

/// A segment is stored after this many blobs, even if it names few packs, so that the set of ids in
/// flight stays small.
const SEGMENT_BLOBS: usize = 64 << 10;

/// Maximum number of concurrent puts. Each put waits most of its time for a disk or a network.
const PUTS: usize = 2;

/// Proof that a pack is durable. A segment names only such packs.
struct PackStored {
    listing: PackListing,
    /// The time at which this process began to store the pack, or adopted it, counted from the
    /// start of the machine.
    since: Duration,
}

impl PackStored {
    /// Returns the number of plain bytes of the chunks in it; 0 for a pack of nodes.
    fn plain(&self) -> u64 {
        let contents = &self.listing.contents;
        let is_chunks = contents.kind == BlobKind::Chunk;
        let chunks = contents.blobs().filter(|_| is_chunks);
        chunks.map(|chunk| u64::from(chunk.plain_len)).sum()
    }
}

/// A complete pack, whose hash is known.
struct NamedPack {
    cipher: PackCipher,
    /// The number of runs of chunks in earlier packs.
    first_run: u64,
    head: [u8; PACK_HEAD_LEN],
    parts: Vec<Part>,
    /// The sealed contents of the pack and their length.
    tail: Vec<u8>,
    listing: PackListing,
}

/// Proof that all packs that a writer stored, and the segments that name them, are durable. Needed
/// to commit a record.
#[derive(Debug)]
pub struct IndexStored {
    packs: Vec<(BlobKind, ObjectHash)>,
}

impl IndexStored {
    /// Returns the packs, and the kind of the blobs in each.
    #[must_use]
    pub fn packs(&self) -> &[(BlobKind, ObjectHash)] {
        &self.packs
    }
}

pub(super) struct Writer<'a> {
    index: &'a Index,
    unindexed: UnindexedPacks,
    options: PackerOptions,
    pending: Vec<PackStored>,
    pending_blobs: usize,
    bytes: u64,
    /// The packs that were stored.
    stored: Vec<(BlobKind, ObjectHash)>,
    /// The number of runs of chunks that were packed so far.
    runs: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(index: &'a Index, unindexed: UnindexedPacks, options: PackerOptions) -> Self {
        Self {
            index,
            unindexed,
            options,
            pending: Vec::new(),
            pending_blobs: 0,
            bytes: 0,
            stored: Vec::new(),
            runs: 0,
        }
    }

    /// Stores packs until the channel closes. Passes the parts of each pack to `spent`. When a pack
    /// is durable, passes the number of plain bytes of its chunks to `durable`. When a segment is
    /// stored, passes the ids in it to `indexed`. Returns the proof that all packs are durable, and
    /// the number of stored bytes. A dry run stores nothing, and returns no proof.
    pub(super) fn run(
        mut self,
        packs: &Receiver<ToWriter>,
        spent: impl Fn(Vec<Part>) + Sync,
        durable: impl Fn(u64),
        indexed: impl Fn(Vec<BlobId>),
    ) -> Result<(Option<IndexStored>, u64), RepoError> {
        let mut result = self.store_all(packs, &spent, (&durable, &indexed));
        if result.is_ok() && self.options.name_unnamed && !self.options.dry_run {
            result = self.name_unnamed(&indexed);
        }
        // Name durable packs even if a later pack failed, so that the next process uses them.
        let named = self.store_segment(&indexed);
        result?;
        named?;
        let packs = self.stored;
        let stored = (!self.options.dry_run).then_some(IndexStored { packs });
        Ok((stored, self.bytes))
    }

    /// Stores packs, a few at a time. After a failure, starts no further put and waits for those in
    /// progress.
    fn store_all(
        &mut self,
        packs: &Receiver<ToWriter>,
        spent: &(impl Fn(Vec<Part>) + Sync),
        (durable, indexed): (&impl Fn(u64), &impl Fn(Vec<BlobId>)),
    ) -> Result<(), RepoError> {
        let mut failed = None;
        let never = crossbeam_channel::never();
        let (done, stored) = crossbeam_channel::bounded(PUTS);
        let buffers = &VerifyBuffers::default();
        thread::scope(|scope| {
            let mut more = true;
            let mut under_way = 0;
            while more || under_way > 0 {
                let next = if more && under_way < PUTS {
                    packs
                } else {
                    &never
                };
                let news = crossbeam_channel::select! {
                    recv(next) -> pack => match pack {
                        Ok(ToWriter::Full(packs)) => {
                            let packs = packs.into_iter();
                            let named: Result<Vec<_>, _> =
                                packs.map(|pack| self.name(pack)).collect();
                            let (index, options) = (self.index, self.options);
                            let since = leases::now();
                            let done = done.clone();
                            let thread = thread::Builder::new();
                            let started = thread.spawn_scoped(scope, move || {
                                let put = || put(index, named?, since, options, buffers, spent);
                                // A panic is passed on to the thread that receives the result.
                                done.send(catch_unwind(AssertUnwindSafe(put)))
                            });
                            match started {
                                Ok(_) => under_way += 1,
                                Err(error) => {
                                    more = false;
                                    failed.get_or_insert(RepoError::Thread(error));
                                }
                            }
                            continue;
                        }
                        Ok(ToWriter::Adopted(listing)) => Ok(vec![PackStored::now(listing)]),
                        Err(_) => {
                            more = false;
                            continue;
                        }
                    },
                    recv(stored) -> put => {
                        under_way -= 1;
                        let put = put.unwrap_or_else(|_| Ok(Err(Cancelled.into())));
                        put.unwrap_or_else(|panic| resume_unwind(panic))
                    }
                };
                if let Err(error) = news.and_then(|stored| {
                    durable(stored.iter().map(PackStored::plain).sum());
                    self.note(stored, indexed)
                }) {
                    // Stop receiving, so that the writer ends and its budget is closed. Workers may
                    // wait for bytes of the budget that a failed pack never gives back.
                    more = false;
                    failed.get_or_insert(error);
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn note(
        &mut self,
        stored: Vec<PackStored>,
        indexed: &impl Fn(Vec<BlobId>),
    ) -> Result<(), RepoError> {
        let blobs = |pack: &PackStored| pack.listing.contents.blobs().count();
        self.pending_blobs += stored.iter().map(blobs).sum::<usize>();
        let named = |pack: &PackStored| (pack.listing.contents.kind, pack.listing.pack);
        self.stored.extend(stored.iter().map(named));
        self.pending.extend(stored);
        let full = self.pending.len() >= self.options.sizes.segment_packs();
        if full || self.pending_blobs >= SEGMENT_BLOBS {
            self.store_segment(indexed)?;
        }
        Ok(())
    }

    /// Names the packs that no segment names, before a record relies on them. Leaves out packs
    /// whose bytes are not those that their signers signed. Also leaves out packs that no longer
    /// exist or are going to be deleted, and excludes them from the index.
    fn name_unnamed(&mut self, indexed: &impl Fn(Vec<BlobId>)) -> Result<(), RepoError> {
        self.index.verify_unnamed()?;
        let mut packs = Vec::new();
        for pack in self.index.unnamed()? {
            if !self.index.is_excluded(&pack) && self.index.is_whole(&pack)? {
                packs.push(pack);
            }
        }
        if packs.is_empty() {
            return Ok(());
        }
        let project = self.index.project();
        let mut listings = Vec::with_capacity(packs.len());
        for pack in &packs {
            listings.extend(self.index.listing(pack)?);
        }
        let objects: Vec<_> = listings.iter().map(|pack| object(project, pack)).collect();
        let unusable = self.unindexed.announce(project, &objects)?;
        listings.retain(|listing| !unusable.contains(&listing.pack));
        self.index.exclude_used(unusable);
        for listing in listings {
            self.note(vec![PackStored::now(listing)], indexed)?;
        }
        Ok(())
    }

    /// Completes a pack. Adds it to the list of unindexed packs before it is stored, since the
    /// process may be killed as soon as the pack exists.
    fn name(&mut self, pack: FullPack) -> Result<NamedPack, RepoError> {
        let random = *pack.random.as_bytes();
        let head = PackHead { random }.encode();
        let project = self.index.project();
        // Hash all bytes in one pass. The sealed contents include the hash of the bytes before
        // them.
        let mut hasher = ObjectHasher::default();
        let before = joined(&head, &pack.parts, &[]);
        for part in &before {
            hasher.update(part);
        }
        self.bytes += before.iter().map(|part| part.len() as u64).sum::<u64>();
        let (tail, signer) = seal_contents(project, &head, &pack.contents, &hasher.so_far())?;
        hasher.update(&tail);
        self.bytes += tail.len() as u64;
        let hash = hasher.name();
        if !self.options.dry_run {
            self.unindexed.add(hash);
        }
        let first_run = self.runs;
        if pack.contents.kind == BlobKind::Chunk {
            self.runs += pack.contents.runs.len() as u64;
        }
        Ok(NamedPack {
            cipher: pack.cipher,
            first_run,
            head,
            parts: self.options.verify.disturbed(pack.parts),
            tail,
            listing: PackListing {
                pack: hash,
                random,
                signer,
                contents: pack.contents,
            },
        })
    }

    fn store_segment(&mut self, indexed: &impl Fn(Vec<BlobId>)) -> Result<(), RepoError> {
        if self.options.dry_run {
            // No segment will name these packs. Their ids stay in flight, so that no chunk counts
            // as new twice.
            self.pending.clear();
            self.pending_blobs = 0;
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        // List packs in a segment in the order in which storing them began.
        self.pending.sort_by_key(|stored| stored.since);
        let since = self.pending[0].since;
        let names: Vec<_> = self.pending.iter().map(|s| s.listing.pack).collect();
        let project = self.index.project();
        let pending = self.pending.iter();
        let objects: Vec<_> = pending.map(|s| object(project, &s.listing)).collect();
        self.unindexed.check_nameable(project, &objects, since)?;
        let packs = self.pending.drain(..).map(|stored| stored.listing);
        let packs = packs.collect();
        self.pending_blobs = 0;
        let segment = IndexSegment {
            packs,
            superseded: Vec::new(),
        };
        let (segment, len) = self.index.store_segment(segment)?;
        self.bytes += len;
        self.unindexed.remove(&names);
        indexed(
            segment
                .packs
                .iter()
                .flat_map(|p| p.contents.blobs().map(|b| b.id))
                .collect(),
        );
        Ok(())
    }
}

impl PackStored {
    /// Returns the proof for a pack that is already in the store.
    fn now(listing: PackListing) -> Self {
        let since = leases::now();
        Self { listing, since }
    }
}

/// Returns a pack as an object of the project.
fn object(project: &Project, pack: &PackListing) -> ObjectRef {
    ObjectRef::of_pack(project.id, pack.contents.kind, pack.pack)
}

/// Stores packs that the same segment must name. When the function returns, all of them are
/// durable.
fn put(
    index: &Index,
    mut packs: Vec<NamedPack>,
    since: Duration,
    options: PackerOptions,
    buffers: &VerifyBuffers,
    spent: &impl Fn(Vec<Part>),
) -> Result<Vec<PackStored>, RepoError> {
    let project = index.project();
    let Project { id, objects, .. } = project;
    if !options.dry_run {
        for pack in &mut packs {
            let (contents, parts) = (&pack.listing.contents, &mut pack.parts);
            let (verify, first) = (options.verify, pack.first_run);
            verify.verify(project, &pack.cipher, contents, parts, first, buffers)?;
        }
        // The copies of a node pack are stored at the same time.
        parallel_map(&packs, |pack| {
            let kind = pack.listing.contents.kind;
            let bytes = joined(&pack.head, &pack.parts, &pack.tail);
            objects.put_pack(*id, pack.listing.pack, kind, &bytes)
        })?;
    }
    let stored = packs.into_iter().map(|pack| {
        spent(pack.parts);
        let listing = pack.listing;
        PackStored { listing, since }
    });
    Ok(stored.collect())
}

/// Returns the bytes of a pack, in order.
fn joined<'a>(head: &'a [u8], parts: &'a [Part], tail: &'a [u8]) -> Vec<&'a [u8]> {
    let mut all = vec![head];
    all.extend(parts.iter().map(|part| &part[..]));
    all.push(tail);
    all
}

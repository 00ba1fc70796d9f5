//! Packs blobs in many threads at the same time.
//!
//! A worker joins new chunks into runs and compresses them into its own buffer, a part. When the
//! part is full, the worker reserves ordinals (the numbers of its runs) in the open pack. Then it
//! seals the runs in place, and delivers the part to the pack. A pack gets no more reservations
//! after it is closed. When all reservations of a closed pack are delivered, the pack goes to the
//! writer. A budget limits the number of bytes that are compressed but not stored yet.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::super::blobs::{pack_context, run_context};
use super::super::error::RepoError;
use super::super::index::Index;
use super::super::location::BlobLocation;
use super::super::object_ref::ObjectRef;
use super::super::pack_listing::read_listing;
use super::budget::{Budget, CloseOnDrop, CloseOnPanic};
use super::full_pack::{FullPack, PackerOptions, ToWriter};
use super::in_flight_ids::InFlightIds;
use super::pack_sizes::BLOBS_TARGET;
use super::part::Part;
use super::seal::seal_runs;
use super::unindexed_packs::UnindexedPacks;
use super::writer::{IndexStored, Writer};
use crate::base::{BlobId, Cancelled, Notice, ObjectHash, Observer, TAG_LEN, lock, to_usize};
use crate::crypto::{PackCipher, PackRandom, Secret};
use crate::format::{Blob, BlobKind, Codec, Contents, PackKey, RUN_PLAIN_MAX, Run};

/// A worker delivers its part when it has this many bytes.
const PART_LEN: usize = 1 << 20;
/// The minimum free space of a part that is not full, in bytes: enough for any run of this program.
const PART_SPACE: usize = RUN_PLAIN_MAX + TAG_LEN;
/// After this time, a thread that waits for the budget tests whether it must close the open pack.
const BUDGET_WAIT: Duration = Duration::from_millis(20);
/// Maximum number of parts that are kept for reuse, since the system takes time to provide memory.
/// The budget does not count them.
const SPARE_MAX: usize = 12;
/// The number of packs that hold each node.
const NODE_COPIES: usize = BlobKind::Node.copies();

/// A pack that is being filled.
struct OpenPack {
    random: PackRandom,
    key: PackKey,
    cipher: PackCipher,
    state: Mutex<FillingState>,
}

#[derive(Default)]
struct FillingState {
    runs: Vec<Run>,
    blobs: usize,
    /// The part of each reservation. `None` if it is not delivered yet.
    parts: Vec<Option<Part>>,
    /// The number of reservations that are not delivered yet.
    missing: usize,
    /// The bytes of all reservations.
    len: usize,
    /// Whether the pack gets no more reservations.
    closed: bool,
}

/// The result of packing.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackerReport {
    /// The number of chunks that the project did not have.
    pub chunks_new: u64,
    /// The length of these chunks before compression, in bytes.
    pub bytes_new: u64,
    /// Bytes of the packs and segments that were stored. In a dry run, bytes of the packs that
    /// would be stored.
    pub bytes_stored: u64,
}

/// A function that returns the number of plain bytes of new chunks that are not durable yet.
pub type Pending<'a> = dyn Fn() -> u64 + 'a;

/// The state that the packer and its writer share.
struct Shared {
    /// Ids of blobs that this packer stores and the index does not have yet.
    in_flight: InFlightIds,
    budget: Budget,
    /// The number of closed packs that have not given back their bytes to the budget.
    closed: AtomicUsize,
    /// Parts for reuse, all empty.
    spare: Mutex<Vec<Part>>,
    /// A worker delivers a part when it has this many bytes.
    part_len: usize,
    /// The number of plain bytes of chunks that the project did not hold.
    bytes_new: AtomicU64,
    /// How many of these bytes are durable. In a dry run, how many would be durable.
    bytes_durable: AtomicU64,
}

impl Shared {
    fn bytes_pending(&self) -> u64 {
        let new = self.bytes_new.load(Ordering::Relaxed);
        new.saturating_sub(self.bytes_durable.load(Ordering::Relaxed))
    }
}

/// Takes blobs and stores those that the project does not hold.
pub struct Packer<'a> {
    index: &'a Index,
    shared: &'a Shared,
    options: PackerOptions,
    context: [u8; 32],
    open: Mutex<Option<Arc<OpenPack>>>,
    /// The key from which the keys of all packs of chunks of this packer derive. `None` before the
    /// first such pack.
    key: Mutex<Option<(PackKey, Secret)>>,
    nodes: Mutex<(Vec<u8>, Vec<Run>)>,
    to_writer: Sender<ToWriter>,
    chunks_new: AtomicU64,
}

impl Packer<'_> {
    /// Runs `work` with a packer, and then stores the open packs. Stores them even if `work` fails,
    /// so that the next process can use them. The [`IndexStored`] proves that all packs and their
    /// segments are durable. It is `None` after a dry run, which stores nothing.
    pub fn scope<T, E: From<RepoError>>(
        index: &Index,
        unindexed: UnindexedPacks,
        options: PackerOptions,
        work: impl FnOnce(&Packer<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<IndexStored>, PackerReport), E> {
        Self::scope_shown(index, unindexed, options, &|_: &Pending<'_>| (), work)
    }

    /// Does the same as [`scope`](Self::scope). Also calls `show` each time that packs have become
    /// durable, even after `work` has ended.
    pub fn scope_shown<T, E: From<RepoError>>(
        index: &Index,
        unindexed: UnindexedPacks,
        options: PackerOptions,
        show: &(impl Fn(&Pending<'_>) + Sync),
        work: impl FnOnce(&Packer<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<IndexStored>, PackerReport), E> {
        let shared = Shared {
            in_flight: if options.dry_run {
                InFlightIds::to_count()
            } else {
                InFlightIds::to_store()
            },
            budget: Budget::new(index.project().pack_memory.bytes()),
            closed: AtomicUsize::new(0),
            spare: Mutex::default(),
            part_len: PART_LEN.min(options.sizes.data()),
            bytes_new: AtomicU64::new(0),
            bytes_durable: AtomicU64::new(0),
        };
        let (to_writer, finished) = crossbeam_channel::bounded(1);
        std::thread::scope(|scope| {
            let shared = &shared;
            let thread = std::thread::Builder::new().name("packs".to_owned());
            let writing = thread.spawn_scoped(scope, move || {
                // Close the budget when the writer ends, so that no thread waits for it forever.
                let _closing = CloseOnDrop(&shared.budget);
                Writer::new(index, unindexed, options).run(
                    &finished,
                    |parts| shared.take_back(parts),
                    |bytes| {
                        shared.bytes_durable.fetch_add(bytes, Ordering::Relaxed);
                        show(&|| shared.bytes_pending());
                    },
                    |ids| shared.in_flight.release(ids),
                )
            });
            let writing = writing.map_err(RepoError::Thread)?;
            let packer = Packer {
                index,
                shared,
                options,
                context: pack_context(index.project()),
                open: Mutex::new(None),
                key: Mutex::new(None),
                nodes: Mutex::default(),
                to_writer,
                chunks_new: AtomicU64::new(0),
            };
            let worked = work(&packer);
            let flushed = packer.flush_all();
            let chunks_new = packer.chunks_new.load(Ordering::Relaxed);
            let bytes_new = shared.bytes_new.load(Ordering::Relaxed);
            // The writer ends when the channel closes.
            drop(packer);
            let written = writing.join().unwrap_or_else(|panic| resume_unwind(panic));
            // If the writer failed, report its error, since it caused the other errors.
            let (stored, bytes_stored) = written.map_err(E::from)?;
            let value = worked?;
            flushed?;
            Ok((
                value,
                stored,
                PackerReport {
                    chunks_new,
                    bytes_new,
                    bytes_stored,
                },
            ))
        })
    }

    /// Adopts the given packs that an interrupted process with the same key stored: segments of
    /// this process will name them. Skips packs that the index has, packs of nodes, damaged packs,
    /// and packs of other signers.
    pub fn adopt(&self, packs: &[ObjectHash], observer: &dyn Observer) -> Result<(), RepoError> {
        let mut adopted = 0;
        for pack in packs {
            if self.index.has_pack(pack)? {
                continue;
            }
            // Do not adopt packs of nodes: only one of the two copies may have been stored, and
            // storing nodes again takes little time.
            let project = self.index.project();
            let object = ObjectRef::Pack(project.id, *pack);
            let listing = match read_listing(project, object, None) {
                Ok(listing) => listing,
                // The process ended while the pack was being stored.
                Err(
                    RepoError::Damaged { .. }
                    | RepoError::Foreign { .. }
                    | RepoError::Unsupported { .. },
                ) => continue,
                Err(error) => return Err(error),
            };
            // Another signer may have listed blobs that the pack does not have.
            if listing.signer != project.keys.signing().public() {
                continue;
            }
            for blob in listing.contents.blobs() {
                self.shared.in_flight.insert(blob.id);
            }
            self.to_writer
                .send(ToWriter::Adopted(listing))
                .map_err(|_| Cancelled)?;
            adopted += 1;
        }
        if adopted > 0 {
            observer.notice(Notice::Resumed { packs: adopted });
        }
        Ok(())
    }

    /// Closes the open pack, so that later blobs go to another one. All workers must be
    /// [flushed](Self::flush).
    pub fn end_pack(&self) -> Result<(), RepoError> {
        self.close_open()
    }

    /// Drops the packs that are not full yet, so that they are not stored. Nothing may be added
    /// afterwards. All workers must be [flushed](Self::flush).
    pub fn discard(&self) {
        drop(lock(&self.open).take());
        drop(std::mem::take(&mut *lock(&self.nodes)));
    }

    /// Returns whether there is an open pack that is small. See [`PackSizes`](super::PackSizes).
    #[must_use]
    pub fn is_open_small(&self) -> bool {
        let sizes = self.options.sizes;
        lock(&self.open).as_ref().is_some_and(|pack| {
            let state = lock(&pack.state);
            let (bytes, blobs) = (state.len as u64, state.blobs as u64);
            sizes.filled(BlobKind::Chunk, bytes, blobs) < sizes.small(BlobKind::Chunk)
        })
    }

    /// Returns the options of the packer.
    pub(super) fn options(&self) -> PackerOptions {
        self.options
    }

    /// Returns the number of bytes at which a worker delivers its part.
    pub(super) fn part_len(&self) -> usize {
        self.shared.part_len
    }

    /// Returns an empty part. It has space for any run of this program until it has
    /// [`part_len`](Self::part_len) bytes.
    pub(super) fn new_part(&self) -> Part {
        self.shared.new_part()
    }

    /// Returns the number of plain bytes of new chunks that are not durable yet.
    #[must_use]
    pub fn bytes_pending(&self) -> u64 {
        self.shared.bytes_pending()
    }

    /// Counts chunks that the project did not hold, and their bytes.
    pub(super) fn count_new(&self, chunks: u64, bytes: u64) {
        self.chunks_new.fetch_add(chunks, Ordering::Relaxed);
        self.shared.bytes_new.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Seals runs and adds them to the open pack.
    pub(super) fn hand_over(&self, mut runs: Vec<Run>, mut part: Part) -> Result<(), RepoError> {
        // If this thread panics, the part is never delivered, and its pack never goes to the
        // writer. Close the budget, so that other threads do not wait forever.
        let _closing = CloseOnPanic(&self.shared.budget);
        self.take_budget(part.len())?;
        let (pack, part_number, first_ordinal) = self.reserve(&runs, part.len())?;
        let bound = run_context(&self.context, BlobKind::Chunk);
        seal_runs(&pack.cipher, &bound, first_ordinal, &mut runs, &mut part);
        self.deliver(&pack, part_number, first_ordinal, runs, part)
    }

    /// Adds a tree node, unless enough packs of the project have it. Each node is a run of its own,
    /// so that a reader can open one node without others.
    pub fn add_node(&self, id: BlobId, plain: &[u8]) -> Result<(), RepoError> {
        // Store a node again if it is in fewer packs than it should be.
        let has_copies = || {
            let places = self.index.find_all_trusted(&id)?;
            let packs: HashSet<_> = places.iter().map(BlobLocation::pack).collect();
            Ok(packs.len() >= NODE_COPIES)
        };
        if !self.claim_unless(id, has_copies)? {
            return Ok(());
        }
        let mut nodes = lock(&self.nodes);
        let (buf, runs) = &mut *nodes;
        buf.extend_from_slice(plain);
        buf.extend_from_slice(&[0; TAG_LEN]);
        runs.push(run(
            Codec::Raw,
            plain.len() + TAG_LEN,
            vec![blob(id, plain.len())],
        ));
        if buf.len() >= self.options.sizes.nodes() || runs.len() >= BLOBS_TARGET {
            let (buf, runs) = std::mem::take(&mut *nodes);
            drop(nodes);
            self.store_nodes(&buf, &runs)?;
        }
        Ok(())
    }

    fn store_nodes(&self, plain: &[u8], runs: &[Run]) -> Result<(), RepoError> {
        let _closing = CloseOnPanic(&self.shared.budget);
        let mut copies = Vec::with_capacity(NODE_COPIES);
        for _ in 0..NODE_COPIES {
            self.take_budget(plain.len())?;
            let random = PackRandom::random()?;
            let project = self.index.project();
            let cipher = project.pack_cipher(BlobKind::Node, &PackKey::Project, random)?;
            let (mut part, mut runs) = (Part::from(plain), runs.to_vec());
            let bound = run_context(&self.context, BlobKind::Node);
            seal_runs(&cipher, &bound, 0, &mut runs, &mut part);
            let contents = Contents {
                kind: BlobKind::Node,
                key: PackKey::Project,
                gap: 0,
                runs,
            };
            copies.push(FullPack {
                cipher,
                random,
                parts: vec![part],
                contents,
            });
        }
        self.shared.closed.fetch_add(NODE_COPIES, Ordering::Relaxed);
        self.send(copies)
    }

    /// Returns whether the caller must store this blob now: the project lacks it, and no other
    /// thread stores it.
    pub(super) fn claim(&self, id: BlobId) -> Result<bool, RepoError> {
        let known = || Ok(self.index.find_trusted(&id)?.is_some());
        self.claim_unless(id, known)
    }

    /// Claims a blob like [`claim`](Self::claim). `known` returns whether the index has enough
    /// copies of the blob.
    fn claim_unless(
        &self,
        id: BlobId,
        known: impl Fn() -> Result<bool, RepoError>,
    ) -> Result<bool, RepoError> {
        let in_flight = &self.shared.in_flight;
        let releases = in_flight.releases();
        if known()? || !in_flight.insert(id) {
            return Ok(false);
        }
        // The writer may have released this id meanwhile. If so, the index has the blob now.
        if in_flight.releases() != releases && known()? {
            in_flight.remove([id]);
            return Ok(false);
        }
        Ok(true)
    }

    /// Lets other threads store blobs that this caller claimed but will not store.
    pub(super) fn unclaim(&self, ids: impl IntoIterator<Item = BlobId>) {
        self.shared.in_flight.remove(ids);
    }

    /// Takes bytes from the budget, and waits for them if needed. Only closed packs give bytes
    /// back. So if there is no closed pack, closes the open one.
    fn take_budget(&self, bytes: usize) -> Result<(), RepoError> {
        while !self.shared.budget.take_within(bytes, BUDGET_WAIT)? {
            if self.shared.closed.load(Ordering::Relaxed) == 0 {
                self.close_open()?;
            }
        }
        Ok(())
    }

    /// Closes the open pack. It goes to the writer now, or when its last part is delivered.
    fn close_open(&self) -> Result<(), RepoError> {
        let Some(pack) = lock(&self.open).take() else {
            return Ok(());
        };
        self.shared.closed.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&pack.state);
        state.closed = true;
        if state.missing > 0 {
            return Ok(());
        }
        let full = pack.take(&mut state);
        drop(state);
        self.send(vec![full])
    }

    /// Begins a pack of chunks. All such packs of one packer have the same key.
    fn open_pack(&self) -> Result<OpenPack, RepoError> {
        let project = self.index.project();
        let mut known = lock(&self.key);
        let (key, secret) = match &mut *known {
            Some(known) => known,
            none => none.insert(project.new_pack_key()?),
        };
        let random = PackRandom::random()?;
        Ok(OpenPack {
            random,
            key: key.clone(),
            cipher: PackCipher::new(secret, project.id, random),
            state: Mutex::default(),
        })
    }

    /// Takes the next ordinals of the open pack for these runs. Returns the pack, the number of the
    /// part in the pack, and the ordinal of the first run.
    fn reserve(&self, runs: &[Run], len: usize) -> Result<(Arc<OpenPack>, usize, u64), RepoError> {
        let mut open = lock(&self.open);
        let pack = match &*open {
            Some(pack) => Arc::clone(pack),
            None => Arc::new(self.open_pack()?),
        };
        let mut state = lock(&pack.state);
        let first_ordinal = state.runs.len() as u64;
        let part_number = state.parts.len();
        state.runs.extend_from_slice(runs);
        state.blobs += runs.iter().map(|run| run.blobs.len()).sum::<usize>();
        state.parts.push(None);
        state.missing += 1;
        state.len += len;
        state.closed = state.len >= self.options.sizes.data() || state.blobs >= BLOBS_TARGET;
        if state.closed {
            self.shared.closed.fetch_add(1, Ordering::Relaxed);
        }
        *open = if state.closed {
            None
        } else {
            Some(Arc::clone(&pack))
        };
        drop(state);
        Ok((pack, part_number, first_ordinal))
    }

    /// Delivers a sealed part. `runs` are the runs in the part, with their checks.
    fn deliver(
        &self,
        pack: &OpenPack,
        part_number: usize,
        first_ordinal: u64,
        runs: Vec<Run>,
        part: Part,
    ) -> Result<(), RepoError> {
        let mut state = lock(&pack.state);
        state.parts[part_number] = Some(part);
        let places = state.runs.iter_mut().skip(to_usize(first_ordinal));
        for (place, run) in places.zip(runs) {
            *place = run;
        }
        state.missing -= 1;
        if state.closed && state.missing == 0 {
            let full = pack.take(&mut state);
            drop(state);
            self.send(vec![full])?;
        }
        Ok(())
    }

    /// Sends the open packs to the writer. All workers must have stopped.
    fn flush_all(&self) -> Result<(), RepoError> {
        self.close_open()?;
        let (buf, runs) = std::mem::take(&mut *lock(&self.nodes));
        if runs.is_empty() {
            Ok(())
        } else {
            self.store_nodes(&buf, &runs)
        }
    }

    fn send(&self, packs: Vec<FullPack>) -> Result<(), RepoError> {
        // The channel is closed only if the writer failed, and the writer reports its error.
        self.to_writer
            .send(ToWriter::Full(packs))
            .map_err(|_| Cancelled.into())
    }
}

impl OpenPack {
    fn take(&self, state: &mut FillingState) -> FullPack {
        FullPack {
            cipher: self.cipher.clone(),
            random: self.random,
            parts: std::mem::take(&mut state.parts)
                .into_iter()
                .flatten()
                .collect(),
            contents: Contents {
                kind: BlobKind::Chunk,
                key: self.key.clone(),
                gap: 0,
                runs: std::mem::take(&mut state.runs),
            },
        }
    }
}

impl Shared {
    fn part_capacity(&self) -> usize {
        self.part_len + PART_SPACE
    }

    fn new_part(&self) -> Part {
        lock(&self.spare)
            .pop()
            .unwrap_or_else(|| Part::with_capacity(self.part_capacity()))
    }

    fn take_back(&self, parts: Vec<Part>) {
        self.closed.fetch_sub(1, Ordering::Relaxed);
        self.budget
            .give_back(parts.iter().map(|part| part.len()).sum());
        let mut spare = lock(&self.spare);
        for mut part in parts {
            // Do not reuse parts of another capacity.
            if part.capacity() == self.part_capacity() && spare.len() < SPARE_MAX {
                part.clear();
                spare.push(part);
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a blob has 4 MiB at most")]
pub(super) fn blob(id: BlobId, plain_len: usize) -> Blob {
    Blob {
        plain_len: plain_len as u32,
        id,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a run has 4 MiB at most")]
pub(super) fn run(codec: Codec, stored_len: usize, blobs: Vec<Blob>) -> Run {
    Run {
        codec,
        stored_len: stored_len as u32,
        check: [0; 16],
        blobs,
    }
}

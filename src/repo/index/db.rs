//! The tables in redb. Nothing here is truth: every error means "make it anew".

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, RwLock};

use redb::{
    Builder, Database, DatabaseError, MultimapTableDefinition, ReadOnlyMultimapTable,
    ReadOnlyTable, ReadableDatabase, ReadableMultimapTable, ReadableTable, ReadableTableMetadata,
    TableDefinition, backends::InMemoryBackend,
};

use super::filter::{BlockKey, Filter};
use super::locality::{Location, PlacedRun};
use crate::base::{BlobId, ObjectHash, lock, read_lock, write_lock};
use crate::format::{Contents, IndexSegment, PACK_HEAD_LEN, PackListing};

/// What identifies the index: format of these tables, repository, project.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// The segments that were taken in: what of each matters beside its packs ([`SegmentRow`]).
const SEGMENTS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("segments");
/// The packs, by a number that stands for them here: hash, nonce, contents.
const PACKS: TableDefinition<u32, &[u8]> = TableDefinition::new("packs");
/// The numbers of the packs.
const NUMBERS: TableDefinition<[u8; 32], u32> = TableDefinition::new("numbers");
/// Those of the packs that no segment names: they were asked themselves.
const UNNAMED: TableDefinition<[u8; 32], ()> = TableDefinition::new("unnamed");
/// Where a blob lies: the first half of its id, to pack number and blob number. The full id is compared in the pack's listing.
const BLOBS: TableDefinition<[u8; 16], u64> = TableDefinition::new("blobs");
/// Where else it lies.
const MORE: MultimapTableDefinition<[u8; 16], u64> = MultimapTableDefinition::new("more");
/// Blocks of the filter.
const FILTER: TableDefinition<(u32, u32), &[u8]> = TableDefinition::new("filter");

/// So many places of a blob are tried: only a hostile writer makes more.
const PLACES_MAX: usize = 64;

const FORMAT: u8 = 3;
const LAYERS: &str = "filter layers";
/// redb's page cache, in bytes; its default of 1 GiB is for servers.
const CACHE_SIZE: usize = 24 << 20;

thread_local! {
    /// Whether this thread is in an [`attempt`], which makes nothing of a panic.
    static ATTEMPTING: Cell<bool> = const { Cell::new(false) };
}

/// Something is wrong with the database.
pub(super) type DbError = Box<dyn std::error::Error + Send + Sync>;

struct Tables {
    packs: ReadOnlyTable<u32, &'static [u8]>,
    blobs: ReadOnlyTable<[u8; 16], u64>,
    more: ReadOnlyMultimapTable<[u8; 16], u64>,
    filter: ReadOnlyTable<(u32, u32), &'static [u8]>,
}

pub(super) struct Db {
    database: Database,
    tables: RwLock<Tables>,
    filter: Mutex<Filter>,
    /// Where it lies; none for one in memory.
    path: Option<PathBuf>,
}

/// A segment, as it is taken in.
pub(super) struct Taken {
    pub(super) name: ObjectHash,
    pub(super) segment: IndexSegment,
}

/// A segment that was taken in.
pub(super) struct SegmentRow {
    pub(super) name: ObjectHash,
    /// The numbers of the packs that it names; none once it is superseded itself.
    pub(super) packs: Vec<u32>,
    /// The segments that it stands for, too.
    pub(super) superseded: Vec<ObjectHash>,
}

/// How opening went.
pub(super) enum Opened {
    /// It is ours and whole.
    Ready(Box<Db>),
    /// Another process has it.
    Busy,
}

fn short(id: &BlobId) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&id.as_bytes()[..16]);
    key
}

impl Db {
    /// Opens or makes the database in this file, for the index with this identity.
    pub(super) fn open(path: &Path, identity: &[u8]) -> Result<Opened, DbError> {
        // A file that was not closed by us, or written to since, may be damaged anywhere, and redb trusts
        // what it has written: then every page's checksum is verified first.
        let trusted = stamp(path)
            .is_ok_and(|now| fs::read_to_string(stamp_path(path)).is_ok_and(|then| then == now));
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE_SIZE)
            .set_check_integrity_on_open(path.exists() && !trusted);
        let database = match builder.create(path) {
            Err(DatabaseError::DatabaseAlreadyOpen) => return Ok(Opened::Busy),
            other => other?,
        };
        let _ = fs::remove_file(stamp_path(path));
        Self::with(database, identity, Some(path.to_owned())).map(|db| Opened::Ready(Box::new(db)))
    }

    /// A database that ends with the process.
    pub(super) fn in_memory(identity: &[u8]) -> Result<Self, DbError> {
        let database = Builder::new()
            .set_cache_size(CACHE_SIZE)
            .create_with_backend(InMemoryBackend::new())?;
        Self::with(database, identity, None)
    }

    fn with(database: Database, identity: &[u8], path: Option<PathBuf>) -> Result<Self, DbError> {
        let expected = [&[FORMAT], identity].concat();
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get("identity")?.map(|value| value.value().to_vec());
            match found {
                None => drop(meta.insert("identity", &expected[..])?),
                Some(found) if found == expected => {}
                Some(_) => return Err("it belongs to another repository or version".into()),
            }
            transaction.open_table(SEGMENTS)?;
            transaction.open_table(PACKS)?;
            transaction.open_table(NUMBERS)?;
            transaction.open_table(UNNAMED)?;
            transaction.open_table(BLOBS)?;
            transaction.open_multimap_table(MORE)?;
            transaction.open_table(FILTER)?;
        }
        transaction.commit()?;
        let layers = database
            .begin_read()?
            .open_table(META)?
            .get(LAYERS)?
            .map(|v| v.value().to_vec());
        let counts = layers.unwrap_or_default();
        let counts = counts
            .as_chunks::<8>()
            .0
            .iter()
            .map(|c| u64::from_le_bytes(*c))
            .collect();
        Ok(Self {
            tables: RwLock::new(tables(&database)?),
            filter: Mutex::new(Filter::new(counts)),
            database,
            path,
        })
    }

    /// Whether it outlives the process.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The segments that were taken in.
    pub(super) fn segments(&self) -> Result<Vec<SegmentRow>, DbError> {
        let table = self.database.begin_read()?.open_table(SEGMENTS)?;
        let mut segments = Vec::new();
        for row in table.iter()? {
            let (name, row) = row?;
            segments.push(SegmentRow::decode(name.value(), row.value())?);
        }
        Ok(segments)
    }

    /// Takes in segments and the packs they name, all or nothing.
    pub(super) fn insert(&self, segments: &[Taken]) -> Result<(), DbError> {
        self.put(segments, &[])
    }

    /// Takes in packs that no segment names.
    pub(super) fn insert_unnamed(&self, packs: &[PackListing]) -> Result<(), DbError> {
        self.put(&[], packs)
    }

    fn put(&self, segments: &[Taken], unnamed_packs: &[PackListing]) -> Result<(), DbError> {
        let mut filter = lock(&self.filter);
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut unnamed = transaction.open_table(UNNAMED)?;
            let mut numbers = transaction.open_table(NUMBERS)?;
            let mut rows = transaction.open_table(PACKS)?;
            let mut next = rows.last()?.map_or(0, |(number, _)| number.value() + 1);
            let mut places = Vec::new();
            // The number of a pack, which it is given now if it is new.
            let mut number_of = |pack: &PackListing| -> Result<(u32, bool), DbError> {
                if let Some(number) = numbers.get(pack.pack.as_bytes())? {
                    return Ok((number.value(), false));
                }
                let number = next;
                numbers.insert(pack.pack.as_bytes(), number)?;
                rows.insert(number, &row(pack)[..])?;
                let blobs = (0..).zip(pack.contents.blobs());
                places.extend(blobs.map(|(i, b)| (b.id, place(number, i))));
                next += 1;
                Ok((number, true))
            };
            for pack in unnamed_packs {
                if number_of(pack)?.1 {
                    unnamed.insert(pack.pack.as_bytes(), ())?;
                }
            }
            let mut table = transaction.open_table(SEGMENTS)?;
            for Taken { name, segment } in segments {
                let mut packs = Vec::with_capacity(segment.packs.len());
                for pack in &segment.packs {
                    unnamed.remove(pack.pack.as_bytes())?;
                    packs.push(number_of(pack)?.0);
                }
                let row = SegmentRow {
                    name: *name,
                    packs,
                    superseded: segment.superseded.clone(),
                };
                table.insert(name.as_bytes(), &row.encode()[..])?;
            }
            // Random keys are a B-tree's worst case: in order, neighbours share the pages they touch.
            places.sort_unstable();
            let mut blobs = transaction.open_table(BLOBS)?;
            let mut more = transaction.open_multimap_table(MORE)?;
            let mut blocks = transaction.open_table(FILTER)?;
            for (id, place) in &places {
                let key = short(id);
                let before = blobs.insert(key, place)?.map(|value| value.value());
                if let Some(before) = before {
                    more.insert(key, before)?;
                }
                // Ids that share the first half are two ids to the filter.
                if before.is_none() || !filter.maybe_has(id, |key| load_block(&blocks, key))? {
                    filter.put(id, |key| load_block(&blocks, key))?;
                }
            }
            for (key, block) in filter.take_dirty() {
                blocks.insert(key, block)?;
            }
            let counts: Vec<u8> = filter
                .counts()
                .iter()
                .flat_map(|c| c.to_le_bytes())
                .collect();
            transaction.open_table(META)?.insert(LAYERS, &counts[..])?;
        }
        // Whoever looks something up holds the tables and asks the filter: never wait for the tables with it.
        // Until they are new, it lets through what they do not have yet, which is only a look in vain.
        drop(filter);
        transaction.commit()?;
        *write_lock(&self.tables) = tables(&self.database)?;
        Ok(())
    }

    /// Lets go of segments that do not count any more, and of the packs that no other one names. Those of `keep`
    /// stay known as segments that name nothing, so that they need not be read again.
    pub(super) fn forget(&self, gone: &[ObjectHash], keep: &[ObjectHash]) -> Result<(), DbError> {
        let gone: HashSet<_> = gone.iter().collect();
        let (mut dropped, mut named) = (HashSet::new(), HashSet::new());
        for row in self.segments()? {
            let packs = if gone.contains(&row.name) {
                &mut dropped
            } else {
                &mut named
            };
            packs.extend(row.packs);
        }
        let mut dropped: Vec<u32> = dropped.difference(&named).copied().collect();
        dropped.sort_unstable();
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut table = transaction.open_table(SEGMENTS)?;
            for name in &gone {
                let row = table.remove(name.as_bytes())?;
                let Some(row) = row.map(|row| SegmentRow::decode(*name.as_bytes(), row.value()))
                else {
                    continue;
                };
                if keep.contains(name) {
                    let row = SegmentRow {
                        packs: Vec::new(),
                        ..row?
                    };
                    table.insert(name.as_bytes(), &row.encode()[..])?;
                }
            }
            let mut rows = transaction.open_table(PACKS)?;
            let mut numbers = transaction.open_table(NUMBERS)?;
            let mut unnamed = transaction.open_table(UNNAMED)?;
            let mut blobs = transaction.open_table(BLOBS)?;
            let mut more = transaction.open_multimap_table(MORE)?;
            for number in dropped {
                let Some(row) = rows.remove(number)?.map(|row| row.value().to_vec()) else {
                    continue;
                };
                let pack = listing(&row)?;
                numbers.remove(pack.pack.as_bytes())?;
                unnamed.remove(pack.pack.as_bytes())?;
                let ids = (0..).zip(pack.contents.blobs());
                let mut places: Vec<_> =
                    ids.map(|(i, b)| (short(&b.id), place(number, i))).collect();
                places.sort_unstable();
                for (key, place) in places {
                    if more.remove(key, place)? {
                        continue;
                    }
                    if blobs.get(key)?.map(|at| at.value()) != Some(place) {
                        continue;
                    }
                    let mut others = more.get(&key)?;
                    let other = others.next().transpose()?.map(|at| at.value());
                    drop(others);
                    if let Some(other) = other {
                        more.remove(key, other)?;
                        blobs.insert(key, other)?;
                    } else {
                        blobs.remove(key)?;
                    }
                }
            }
        }
        transaction.commit()?;
        *write_lock(&self.tables) = tables(&self.database)?;
        Ok(())
    }

    /// Where the blob lies; `first` stops at one place.
    pub(super) fn places(&self, id: &BlobId, first: bool) -> Result<Vec<Location>, DbError> {
        let tables = read_lock(&self.tables);
        if !lock(&self.filter).maybe_has(id, |key| load_block(&tables.filter, key))? {
            return Ok(Vec::new());
        }
        let key = short(id);
        let Some(place) = tables.blobs.get(key)?.map(|value| value.value()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let mut consider = |place: u64| -> Result<bool, DbError> {
            #[expect(clippy::cast_possible_truncation, reason = "two halves")]
            let (number, blob) = ((place >> 32) as u32, place as u32);
            let row = tables.packs.get(number)?.ok_or("a pack is missing")?;
            let (pack, nonce, contents) = parts(row.value())?;
            if let Some(place) = Contents::find_run(contents, blob)? {
                let run = Arc::new(PlacedRun {
                    pack,
                    nonce,
                    kind: place.kind,
                    ordinal: place.ordinal,
                    offset: PACK_HEAD_LEN as u64 + place.before,
                    run: place.run,
                });
                found.extend(run.location(place.blob).filter(|l| l.blob().id == *id));
            }
            Ok(first && !found.is_empty())
        };
        if !consider(place)? {
            for place in tables.more.get(key)?.take(PLACES_MAX) {
                if consider(place?.value())? {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The first pack of this number or a higher one, with its number. They count in the order in which they
    /// were taken in.
    pub(super) fn pack_from(&self, number: u32) -> Result<Option<(u32, PackListing)>, DbError> {
        let table = self.database.begin_read()?.open_table(PACKS)?;
        let Some(row) = table.range(number..)?.next() else {
            return Ok(None);
        };
        let (number, row) = row?;
        Ok(Some((number.value(), listing(row.value())?)))
    }

    /// The names of packs by their numbers.
    pub(super) fn pack_names(&self, numbers: &[u32]) -> Result<Vec<ObjectHash>, DbError> {
        let table = self.database.begin_read()?.open_table(PACKS)?;
        numbers
            .iter()
            .map(|number| {
                let row = table.get(number)?.ok_or("a pack is missing")?;
                Ok(parts(row.value())?.0)
            })
            .collect()
    }

    /// What a pack holds, if it was taken in.
    pub(super) fn listing(&self, pack: &ObjectHash) -> Result<Option<PackListing>, DbError> {
        let numbers = self.database.begin_read()?.open_table(NUMBERS)?;
        let Some(number) = numbers.get(pack.as_bytes())?.map(|number| number.value()) else {
            return Ok(None);
        };
        match self.pack_from(number)? {
            Some((found, listing)) if found == number => Ok(Some(listing)),
            _ => Err("a pack is missing".into()),
        }
    }

    /// The packs that no segment names.
    pub(super) fn unnamed(&self) -> Result<Vec<ObjectHash>, DbError> {
        let table = self.database.begin_read()?.open_table(UNNAMED)?;
        let mut packs = Vec::new();
        for row in table.iter()? {
            packs.push(ObjectHash::from_bytes(row?.0.value()));
        }
        Ok(packs)
    }

    /// Whether this pack was taken in.
    pub(super) fn has_pack(&self, pack: &ObjectHash) -> Result<bool, DbError> {
        Ok(self
            .database
            .begin_read()?
            .open_table(NUMBERS)?
            .get(pack.as_bytes())?
            .is_some())
    }

    /// Packs and blobs (each place counted).
    pub(super) fn counts(&self) -> Result<(u64, u64), DbError> {
        let transaction = self.database.begin_read()?;
        let more = transaction.open_multimap_table(MORE)?.len()?;
        Ok((
            transaction.open_table(PACKS)?.len()?,
            transaction.open_table(BLOBS)?.len()? + more,
        ))
    }

    /// Lets go of it, whatever its state. To be called where it is damaged, since redb then may panic.
    pub(super) fn discard(self) {
        let _ = attempt(move || {
            drop(self);
            Ok(())
        });
    }

    /// Closes the file and notes that it was whole.
    pub(super) fn close(self) {
        let Self {
            database,
            tables,
            path,
            ..
        } = self;
        drop(tables);
        if let (Ok(()), Some(path)) = (database.close(), path)
            && let Ok(stamp) = stamp(&path)
        {
            let _ = fs::write(stamp_path(&path), stamp);
        }
    }
}

/// Runs a step on a database. redb verifies a file that is not trusted when it is opened; damage that it
/// comes upon later it may meet with a panic, which here is an error like any other, and says nothing on
/// standard error.
pub(super) fn attempt<T>(step: impl FnOnce() -> Result<T, DbError>) -> Result<T, DbError> {
    static HOOK: Once = Once::new();
    // The hook is the process's and is asked by all threads: what is no attempt it passes on.
    HOOK.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !ATTEMPTING.get() {
                tell(panic);
            }
        }));
    });
    let before = ATTEMPTING.replace(true);
    let caught = panic::catch_unwind(panic::AssertUnwindSafe(step));
    ATTEMPTING.set(before);
    caught.unwrap_or_else(|_| Err("it is damaged".into()))
}

fn tables(database: &Database) -> Result<Tables, DbError> {
    let transaction = database.begin_read()?;
    Ok(Tables {
        packs: transaction.open_table(PACKS)?,
        blobs: transaction.open_table(BLOBS)?,
        more: transaction.open_multimap_table(MORE)?,
        filter: transaction.open_table(FILTER)?,
    })
}

fn load_block(
    table: &impl ReadableTable<(u32, u32), &'static [u8]>,
    key: BlockKey,
) -> Result<Option<Box<[u8]>>, redb::StorageError> {
    Ok(table.get(key)?.map(|block| block.value().into()))
}

/// What tells whether anybody wrote to the file since.
fn stamp(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    let modified = meta
        .modified()?
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Ok(format!("{} {}", meta.len(), modified.as_nanos()))
}

fn stamp_path(path: &Path) -> PathBuf {
    path.with_extension("stamp")
}

/// Where a blob lies, by the numbers of its pack and in its pack.
fn place(pack: u32, blob: u32) -> u64 {
    u64::from(pack) << 32 | u64::from(blob)
}

impl SegmentRow {
    /// The number of packs, their numbers, and the names of the superseded segments.
    fn encode(&self) -> Vec<u8> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "packs have numbers of 32 bits"
        )]
        let count = self.packs.len() as u32;
        let numbers = std::iter::once(&count).chain(&self.packs);
        let mut out: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
        out.extend(self.superseded.iter().flat_map(ObjectHash::as_bytes));
        out
    }

    fn decode(name: [u8; 32], row: &[u8]) -> Result<Self, DbError> {
        let (count, rest) = row.split_first_chunk::<4>().ok_or("a row is short")?;
        let len = u32::from_le_bytes(*count) as usize * 4;
        let (numbers, names) = rest.split_at_checked(len).ok_or("a row is short")?;
        let numbers = numbers.as_chunks::<4>().0.iter();
        let names = names.as_chunks::<32>().0.iter();
        Ok(Self {
            name: ObjectHash::from_bytes(name),
            packs: numbers.map(|number| u32::from_le_bytes(*number)).collect(),
            superseded: names.map(|name| ObjectHash::from_bytes(*name)).collect(),
        })
    }
}

fn row(pack: &PackListing) -> Vec<u8> {
    [
        &pack.pack.as_bytes()[..],
        &pack.nonce,
        &pack.contents.encode(),
    ]
    .concat()
}

fn listing(row: &[u8]) -> Result<PackListing, DbError> {
    let (pack, nonce, contents) = parts(row)?;
    Ok(PackListing {
        pack,
        nonce,
        contents: Contents::decode(contents)?,
    })
}

/// Name, nonce and encoded contents of a pack.
fn parts(row: &[u8]) -> Result<(ObjectHash, [u8; 16], &[u8]), DbError> {
    let (hash, rest) = row.split_first_chunk::<32>().ok_or("a row is short")?;
    let (nonce, contents) = rest.split_first_chunk::<16>().ok_or("a row is short")?;
    Ok((ObjectHash::from_bytes(*hash), *nonce, contents))
}

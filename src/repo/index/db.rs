//! The database of an index: opening, look-ups, closing. It is a cache. Every error means that it
//! has to be filled again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use redb::{
    Builder, Database, DatabaseError, ReadOnlyMultimapTable, ReadOnlyTable, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, backends::InMemoryBackend,
};

use super::filter::{BlockKey, Filter};
use super::location::{BlobLocation, PlacedRun};
use super::panics::{DbError, catch};
use super::tables::{
    BLOBS, FILTER, FORMAT, IDENTITY, LAYERS, META, MORE, NUMBERS, PACKS, SEGMENTS, SegmentRow,
    UNNAMED, blob_key, listing_of_row, pack_parts, place_numbers,
};
use crate::base::{BlobId, ObjectHash, lock, read_lock};
use crate::format::{Contents, PACK_HEAD_LEN, PackListing};

/// Maximum number of places of a blob that are tried. Only an attacker stores a blob more often.
const PLACES_MAX: usize = 64;
/// redb's page cache, in bytes. Its default of 1 GiB is meant for servers.
const CACHE_SIZE: usize = 24 << 20;

/// The tables that look-ups read, as of the last commit.
pub(super) struct Tables {
    packs: ReadOnlyTable<u32, &'static [u8]>,
    blobs: ReadOnlyTable<[u8; 16], u64>,
    more: ReadOnlyMultimapTable<[u8; 16], u64>,
    filter: ReadOnlyTable<(u32, u32), &'static [u8]>,
}

/// The database of an index.
pub(super) struct Db {
    pub(super) database: Database,
    pub(super) tables: RwLock<Tables>,
    pub(super) filter: Mutex<Filter>,
    /// Its file, or `None` if it is in memory.
    path: Option<PathBuf>,
}

/// The result of opening a database.
pub(super) enum OpenedDb {
    /// It can be used.
    Ready(Box<Db>),
    /// Another process has it open.
    Busy,
}

impl Tables {
    /// The location of the blob in this place. `None` if another blob is there, whose id has the
    /// same first half.
    fn location(&self, place: u64, id: &BlobId) -> Result<Option<BlobLocation>, DbError> {
        let (number, blob) = place_numbers(place);
        let row = self.packs.get(number)?.ok_or("a pack is missing")?;
        let (pack, random, contents) = pack_parts(row.value())?;
        let Some(found) = Contents::find_run(contents, blob)? else {
            return Ok(None);
        };
        let run = Arc::new(PlacedRun {
            pack,
            random,
            kind: found.kind,
            ordinal: found.ordinal,
            offset: PACK_HEAD_LEN as u64 + found.before,
            run: found.run,
        });
        let location = run.location(found.blob);
        Ok(location.filter(|location| location.blob().id == *id))
    }
}

impl Db {
    /// Opens or creates the database in this file, for the index with this identity.
    pub(super) fn open(path: &Path, identity: &[u8]) -> Result<OpenedDb, DbError> {
        // redb trusts what it has written. A file that this program did not close, or that was
        // written to since, may be damaged anywhere: then the checksum of every page is verified.
        let trusted = stamp(path)
            .is_ok_and(|now| fs::read_to_string(stamp_path(path)).is_ok_and(|then| then == now));
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE_SIZE)
            .set_check_integrity_on_open(path.exists() && !trusted);
        let database = match builder.create(path) {
            Err(DatabaseError::DatabaseAlreadyOpen) => return Ok(OpenedDb::Busy),
            other => other?,
        };
        let _ = fs::remove_file(stamp_path(path));
        Self::with(database, identity, Some(path.to_owned()))
            .map(|db| OpenedDb::Ready(Box::new(db)))
    }

    /// Creates a database in memory, which ends with the process.
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
            let found = meta.get(IDENTITY)?.map(|value| value.value().to_vec());
            match found {
                None => drop(meta.insert(IDENTITY, &expected[..])?),
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
            tables: RwLock::new(open_tables(&database)?),
            filter: Mutex::new(Filter::new(counts)),
            database,
            path,
        })
    }

    /// The path of its file, or `None` if it is in memory.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The segments that the database has.
    pub(super) fn segments(&self) -> Result<Vec<SegmentRow>, DbError> {
        let table = self.database.begin_read()?.open_table(SEGMENTS)?;
        let mut segments = Vec::new();
        for row in table.iter()? {
            let (name, row) = row?;
            segments.push(SegmentRow::decode(name.value(), row.value())?);
        }
        Ok(segments)
    }

    /// Calls `each` with the places of a blob until it returns true.
    pub(super) fn each_place(
        &self,
        id: &BlobId,
        mut each: impl FnMut(BlobLocation) -> bool,
    ) -> Result<(), DbError> {
        let tables = read_lock(&self.tables);
        if !lock(&self.filter).maybe_has(id, |key| load_block(&tables.filter, key))? {
            return Ok(());
        }
        let key = blob_key(id);
        let Some(first) = tables.blobs.get(key)?.map(|value| value.value()) else {
            return Ok(());
        };
        if tables.location(first, id)?.is_some_and(&mut each) {
            return Ok(());
        }
        for place in tables.more.get(key)?.take(PLACES_MAX) {
            if tables.location(place?.value(), id)?.is_some_and(&mut each) {
                break;
            }
        }
        Ok(())
    }

    /// The first pack with this number or a higher one, with its number. Packs are numbered in the
    /// order in which they were added.
    pub(super) fn pack_from(&self, number: u32) -> Result<Option<(u32, PackListing)>, DbError> {
        let table = self.database.begin_read()?.open_table(PACKS)?;
        let Some(row) = table.range(number..)?.next() else {
            return Ok(None);
        };
        let (number, row) = row?;
        Ok(Some((number.value(), listing_of_row(row.value())?)))
    }

    /// The names of packs by their numbers.
    pub(super) fn pack_names(&self, numbers: &[u32]) -> Result<Vec<ObjectHash>, DbError> {
        let table = self.database.begin_read()?.open_table(PACKS)?;
        numbers
            .iter()
            .map(|number| {
                let row = table.get(number)?.ok_or("a pack is missing")?;
                Ok(pack_parts(row.value())?.0)
            })
            .collect()
    }

    /// The listing of a pack, if the database has the pack.
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

    /// Whether the database has this pack.
    pub(super) fn has_pack(&self, pack: &ObjectHash) -> Result<bool, DbError> {
        Ok(self
            .database
            .begin_read()?
            .open_table(NUMBERS)?
            .get(pack.as_bytes())?
            .is_some())
    }

    /// Counts the packs, and the places of all blobs.
    pub(super) fn counts(&self) -> Result<(u64, u64), DbError> {
        let transaction = self.database.begin_read()?;
        let more = transaction.open_multimap_table(MORE)?.len()?;
        Ok((
            transaction.open_table(PACKS)?.len()?,
            transaction.open_table(BLOBS)?.len()? + more,
        ))
    }

    /// Drops it, even if it is damaged, which can make redb panic.
    pub(super) fn discard(self) {
        let _ = catch(move || {
            drop(self);
            Ok(())
        });
    }

    /// Closes the file and stamps it: the next [`open`](Self::open) need not verify it.
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

/// Opens the tables as of the last commit.
pub(super) fn open_tables(database: &Database) -> Result<Tables, DbError> {
    let transaction = database.begin_read()?;
    Ok(Tables {
        packs: transaction.open_table(PACKS)?,
        blobs: transaction.open_table(BLOBS)?,
        more: transaction.open_multimap_table(MORE)?,
        filter: transaction.open_table(FILTER)?,
    })
}

/// Loads a block of the filter.
pub(super) fn load_block(
    table: &impl ReadableTable<(u32, u32), &'static [u8]>,
    key: BlockKey,
) -> Result<Option<Box<[u8]>>, redb::StorageError> {
    Ok(table.get(key)?.map(|block| block.value().into()))
}

/// Returns a text that changes when the file is written to: its length and time of modification.
fn stamp(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    let modified = meta
        .modified()?
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Ok(format!("{} {}", meta.len(), modified.as_nanos()))
}

/// The path of the file that holds the stamp.
fn stamp_path(path: &Path) -> PathBuf {
    path.with_extension("stamp")
}

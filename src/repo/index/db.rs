//! The database of an index: opening, look-ups, closing. It is a cache, so after any error it is
//! deleted and filled again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use redb::{
    Builder, Database, DatabaseError, ReadOnlyMultimapTable, ReadOnlyTable, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, backends::InMemoryBackend,
};

use super::filter::{BlockKey, Filter};
use super::panics::{DbError, catch};
use super::tables::{
    BLOBS, FILTER, FORMAT, IDENTITY, LAYERS, META, MORE, NAMED, NO_SESSION, NUMBERS, NamedRow,
    PACKS, PackRow, SEGMENTS, SESSION_NUMBERS, SESSIONS, SIGNERS, SegmentRow, UNNAMED, blob_key,
    place_numbers,
};
use super::trust::{Trust, UntrustedPlaces};
use crate::base::{BlobId, ObjectHash, SignerId, lock, read_lock};
use crate::crypto::Encapsulation;
use crate::format::{Contents, PACK_HEAD_LEN, PackKey, PackListing};
use crate::repo::location::{BlobLocation, PlacedRun};

/// Size of redb's page cache, in bytes. Its default of 1 GiB is meant for servers.
const CACHE_SIZE: usize = 24 << 20;

/// The tables that look-ups read, as they were at the last commit.
pub(super) struct Tables {
    packs: ReadOnlyTable<u32, &'static [u8]>,
    named: ReadOnlyTable<u32, &'static [u8]>,
    sessions: ReadOnlyTable<u32, &'static [u8]>,
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
    /// Returns the location of the blob in this place. Returns `None` if the place holds another
    /// blob whose id has the same first half. Also returns `None` if the place is untrusted and too
    /// many untrusted places of this blob were returned already.
    fn location(
        &self,
        place: u64,
        id: &BlobId,
        trust: &Trust,
        untrusted: &mut UntrustedPlaces,
    ) -> Result<Option<BlobLocation>, DbError> {
        let (number, blob) = place_numbers(place);
        let row = self.packs.get(number)?.ok_or("a pack is missing")?;
        let row = PackRow::decode(row.value())?;
        let named = named_row(&self.named, number)?;
        let trusted = named.counts() && trust.pack(&row.pack, &row.signer, &named);
        if !trusted && !untrusted.has_left(&named) {
            return Ok(None);
        }
        let Some(found) = Contents::find_run(row.contents, blob)? else {
            return Ok(None);
        };
        let key = match session(&self.sessions, row.session)? {
            None => PackKey::Project,
            Some(encapsulation) => PackKey::Session(encapsulation),
        };
        let run = Arc::new(PlacedRun {
            pack: row.pack,
            random: row.random,
            signer: row.signer,
            trusted,
            counts: named.counts(),
            kind: found.kind,
            key,
            ordinal: found.ordinal,
            offset: PACK_HEAD_LEN as u64 + found.before,
            run: found.run,
        });
        let location = run.location(found.blob);
        let location = location.filter(|location| location.blob().id == *id);
        if location.is_some() && !trusted {
            untrusted.take(&named);
        }
        Ok(location)
    }
}

/// Returns the row that states which signers have segments that name the pack with this number.
pub(super) fn named_row(
    table: &impl ReadableTable<u32, &'static [u8]>,
    number: u32,
) -> Result<NamedRow, DbError> {
    let row = table.get(number)?.ok_or("a pack is missing")?;
    NamedRow::decode(row.value())
}

/// Returns the encapsulation of the session key with this number. With such a key, a backup of a
/// write key seals its chunks. `None` for [`NO_SESSION`].
pub(super) fn session(
    table: &impl ReadableTable<u32, &'static [u8]>,
    number: u32,
) -> Result<Option<Arc<Encapsulation>>, DbError> {
    if number == NO_SESSION {
        return Ok(None);
    }
    let row = table.get(number)?.ok_or("a session is missing")?;
    let (_, encapsulation) = session_parts(row.value())?;
    Ok(Some(Arc::new(*encapsulation)))
}

/// Splits the row of a session into the number of its packs and its encapsulation.
pub(super) fn session_parts(row: &[u8]) -> Result<(u32, &Encapsulation), DbError> {
    let (packs, rest) = row.split_first_chunk::<4>().ok_or("a row is short")?;
    let encapsulation = rest.first_chunk().ok_or("a row is short")?;
    Ok((u32::from_le_bytes(*packs), encapsulation))
}

impl Db {
    /// Opens or creates the database in this file, for the index with this identity.
    pub(super) fn open(path: &Path, identity: &[u8]) -> Result<OpenedDb, DbError> {
        // redb does not verify a file that it has closed normally. A matching stamp shows that this
        // program closed the file, and that nothing has written to it since. Without such a stamp,
        // any page may be damaged, so redb verifies the checksum of every page.
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
            transaction.open_table(NAMED)?;
            transaction.open_table(SESSIONS)?;
            transaction.open_table(SESSION_NUMBERS)?;
            transaction.open_table(SIGNERS)?;
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

    /// Calls `each` with the places of a blob, until `each` returns true. Passes all trusted
    /// places, and a limited number of others (see [`UntrustedPlaces`]).
    pub(super) fn each_place(
        &self,
        id: &BlobId,
        trust: &Trust,
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
        let mut untrusted = UntrustedPlaces::default();
        if let Some(location) = tables.location(first, id, trust, &mut untrusted)?
            && each(location)
        {
            return Ok(());
        }
        for place in tables.more.get(key)? {
            if let Some(location) = tables.location(place?.value(), id, trust, &mut untrusted)?
                && each(location)
            {
                break;
            }
        }
        Ok(())
    }

    /// Returns the first pack with this number or a higher one, with its number. `None` if there is
    /// no such pack. Packs are numbered in the order in which they were added.
    pub(super) fn pack_from(&self, number: u32) -> Result<Option<(u32, PackListing)>, DbError> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(PACKS)?;
        let Some(row) = table.range(number..)?.next() else {
            return Ok(None);
        };
        let (number, row) = row?;
        let row = PackRow::decode(row.value())?;
        let session = session(&transaction.open_table(SESSIONS)?, row.session)?;
        Ok(Some((number.value(), row.listing(session)?)))
    }

    /// Returns the names of the packs with these numbers, in the same order.
    pub(super) fn pack_names(&self, numbers: &[u32]) -> Result<Vec<ObjectHash>, DbError> {
        let table = self.database.begin_read()?.open_table(PACKS)?;
        numbers
            .iter()
            .map(|number| {
                let row = table.get(number)?.ok_or("a pack is missing")?;
                Ok(PackRow::decode(row.value())?.pack)
            })
            .collect()
    }

    fn number(&self, pack: &ObjectHash) -> Result<Option<u32>, DbError> {
        let numbers = self.database.begin_read()?.open_table(NUMBERS)?;
        Ok(numbers.get(pack.as_bytes())?.map(|number| number.value().0))
    }

    /// The listing of a pack, if the database has the pack.
    pub(super) fn listing(&self, pack: &ObjectHash) -> Result<Option<PackListing>, DbError> {
        let Some(number) = self.number(pack)? else {
            return Ok(None);
        };
        match self.pack_from(number)? {
            Some((found, listing)) if found == number => Ok(Some(listing)),
            _ => Err("a pack is missing".into()),
        }
    }

    /// Returns the row that states which signers have segments that name a pack. `None` if the
    /// database does not have the pack.
    pub(super) fn named(&self, pack: &ObjectHash) -> Result<Option<NamedRow>, DbError> {
        let Some(number) = self.number(pack)? else {
            return Ok(None);
        };
        let table = self.database.begin_read()?.open_table(NAMED)?;
        named_row(&table, number).map(Some)
    }

    /// The packs that only superseded segments name.
    pub(super) fn retired(&self) -> Result<Vec<ObjectHash>, DbError> {
        let table = self.database.begin_read()?.open_table(NAMED)?;
        let mut numbers = Vec::new();
        for row in table.iter()? {
            let (number, row) = row?;
            if !NamedRow::decode(row.value())?.counts() {
                numbers.push(number.value());
            }
        }
        self.pack_names(&numbers)
    }

    /// The packs that count (see [`NamedRow::counts`]), with the sizes in bytes that they should
    /// have.
    pub(super) fn sizes(&self) -> Result<Vec<(ObjectHash, u64)>, DbError> {
        let transaction = self.database.begin_read()?;
        let named = transaction.open_table(NAMED)?;
        let mut sizes = Vec::new();
        for row in transaction.open_table(NUMBERS)?.iter()? {
            let (pack, value) = row?;
            let (number, size) = value.value();
            if named_row(&named, number)?.counts() {
                sizes.push((ObjectHash::from_bytes(pack.value()), size));
            }
        }
        Ok(sizes)
    }

    /// All signers of packs and segments that were ever in the database.
    pub(super) fn signers(&self) -> Result<Vec<SignerId>, DbError> {
        let table = self.database.begin_read()?.open_table(SIGNERS)?;
        let mut signers = Vec::new();
        for row in table.iter()? {
            signers.push(SignerId::from_bytes(row?.0.value()));
        }
        Ok(signers)
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
        Ok(self.number(pack)?.is_some())
    }

    /// Returns the number of packs, and the number of places of all blobs.
    pub(super) fn counts(&self) -> Result<(u64, u64), DbError> {
        let transaction = self.database.begin_read()?;
        let more = transaction.open_multimap_table(MORE)?.len()?;
        Ok((
            transaction.open_table(PACKS)?.len()?,
            transaction.open_table(BLOBS)?.len()? + more,
        ))
    }

    /// Drops the database. Damage can make redb panic here, so panics are caught.
    pub(super) fn discard(self) {
        let _ = catch(move || {
            drop(self);
            Ok(())
        });
    }

    /// Closes the file and stores its stamp, so that the next [`open`](Self::open) need not verify
    /// the file.
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

/// Opens the tables as they are after the last commit.
pub(super) fn open_tables(database: &Database) -> Result<Tables, DbError> {
    let transaction = database.begin_read()?;
    Ok(Tables {
        packs: transaction.open_table(PACKS)?,
        named: transaction.open_table(NAMED)?,
        sessions: transaction.open_table(SESSIONS)?,
        blobs: transaction.open_table(BLOBS)?,
        more: transaction.open_multimap_table(MORE)?,
        filter: transaction.open_table(FILTER)?,
    })
}

/// Loads a block of the filter. Returns `None` if the table does not have the block.
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
